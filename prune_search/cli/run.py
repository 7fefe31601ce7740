"""``prune-search run``: run one recipe."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from prune_search.cli.arguments import (
    Data,
    DataRoot,
    Device,
    Json,
    Model,
    Sets,
    Storage,
    StorageBudget,
    TaskName,
    examples,
    read_length,
    read_sets,
)
from prune_search.cli.exits import FAILED, complain
from prune_search.cli.verbs import VERBS, Verb

if TYPE_CHECKING:
    from prune_search.trial.callbacks import Observation
    from prune_search.trial.result import Result

EPILOG = examples(
    "prune-search run lottery-ticket",
    "prune-search run snip --set mask.sparsity=0.9 --set task.seed=1 --out ticket",
    "prune-search run ticket --verify",
    "prune-search run fine-tune --evaluate-every 1ep",
    "prune-search run fine-tune --data fashion-mnist --model lenet-5 --data-root ~/data",
    "prune-search run snip --task my.module:task",
    "prune-search run recipe.yaml --model my.module:net --data my.module:data",
)


@VERBS.register("run", facts=Verb(epilog=EPILOG))
def run(
    recipe: Annotated[
        str, typer.Argument(metavar="RECIPE_OR_PRESET", help="Recipe file, folder of an earlier run, or preset.")
    ],
    sets: Sets = None,
    data_root: DataRoot = None,
    task: TaskName = None,
    model: Model = None,
    data: Data = None,
    storage: Storage = None,
    storage_budget: StorageBudget = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="Write the recipe, weights, masks and metrics to this folder.")
    ] = None,
    verify: Annotated[
        bool,
        typer.Option(
            "--verify",
            help="Retrain from scratch and compare bit for bit: with the given folder, or else with a second run.",
        ),
    ] = False,
    evaluate_every: Annotated[
        str | None,
        typer.Option(
            "--evaluate-every",
            metavar="STEPS",
            help="Also measure on validation data after every so many steps of a retraining, e.g. 100it or 1ep. "
            "Nothing is measured where the retraining is stored already.",
        ),
    ] = None,
    device: Device = "auto",
    as_json: Json = False,
) -> int:
    """Run one recipe or preset and measure the result.

    Training states that are already stored are reused.
    """
    values = read_sets(sets)
    from prune_search.api.run import run as run_recipe
    from prune_search.api.run import verify as verify_recipe
    from prune_search.api.where import Where
    from prune_search.cli.progress import watching
    from prune_search.search.stop_request import StopRequest, watch_signals
    from prune_search.training.compiler_import import postpone_compiler_import
    from prune_search.training.state_store import PreemptedError
    from prune_search.trial.callbacks import Evaluating, Guarded, Sink

    every = None if evaluate_every is None else read_length(evaluate_every, "--evaluate-every")
    where = Where(data_root, storage, model, data, device, storage_budget, task=task)
    postpone_compiler_import()
    verdict: str | None = None
    compared: dict[str, Any] = {}
    asked = StopRequest()
    with watch_signals(asked), watching(quiet=as_json and not sys.stderr.isatty()) as bar:
        seen: list[Observation] = []
        told: Sink = bar if every is None else Evaluating(bar, every, seen.append)
        sink = Guarded(told, asked)
        try:
            if verify:
                verified = verify_recipe(recipe, set=values, where=where, out=out, sink=sink)
                result, verdict, compared = verified.result, verified.verdict, dict(verified.environment)
            else:
                result = run_recipe(recipe, set=values, where=where, out=out, sink=sink)
        except PreemptedError:
            complain("Stopped; the training state is stored. Run the same command again to continue.")
            return asked.exit_code
    _show(result, verdict, compared, out, as_json, seen if every is not None else None)
    return FAILED if verdict == "different" else 0


def _show(
    result: Result,
    verdict: str | None,
    compared: dict[str, Any],
    out: Path | None,
    as_json: bool,
    seen: list[Observation] | None = None,
) -> None:
    data = result.as_data()
    if seen is not None:
        data["evaluations"] = [
            {"round": one.round_number, "step": one.step, "steps_trained": one.steps_trained, **one.metrics}
            for one in seen
        ]
    if verdict is not None:
        data["verified"] = verdict
    if as_json:
        typer.echo(json.dumps(data, allow_nan=False))
    else:
        from prune_search.cli.summary import show_result

        for one in seen or ():
            figures = "  ".join(f"{name} {value:.4f}" for name, value in one.metrics.items())
            typer.echo(f"round {one.round_number}, step {one.step}: {figures}")
        show_result(result, out)
    if verdict is not None:
        here, there = dict(result.environment), compared
        where = f"in {_environment(here)}" + ("" if here == there else f", against {_environment(there)}")
        line = f"verified: {verdict} ({where})"
        if as_json:
            complain(line)
        else:
            typer.echo(line)


def _environment(environment: dict[str, Any]) -> str:
    return ", ".join(f"{key} {value}" for key, value in sorted(environment.items())) or "an unknown environment"
