"""``prune-search plan``: estimate the cost of a search before launching it."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from prune_search.cli.arguments import Data, DataRoot, Device, Json, Model, Sets, Storage, TaskName, examples, read_sets
from prune_search.cli.verbs import VERBS, Verb

if TYPE_CHECKING:
    from prune_search.api.plan import PlannedSearch

EPILOG = examples(
    "prune-search plan quickstart",
    "prune-search plan search_spaces/lottery_ticket.yaml --data-root ~/data --trials 64",
    "prune-search plan my.yaml --no-calibrate --json",
)
# Above these limits `launch` asks for confirmation unless --yes is given.
ASK_STEPS, ASK_TRIALS = 10_000_000, 10_000
ASKED = f"Do not ask before a search of more than {ASK_STEPS:,} steps or {ASK_TRIALS:,} trials."
MAX_PARAMS = 4


@VERBS.register("plan", facts=Verb(epilog=EPILOG))
def plan(
    space: Annotated[
        str, typer.Argument(metavar="SPACE", help="Space file, or the name of a space that ships with the package.")
    ],
    sets: Sets = None,
    trials: Annotated[int | None, typer.Option("--trials", help="Number of trials.")] = None,
    calibrated: Annotated[
        bool,
        typer.Option(
            "--calibrate/--no-calibrate", help="Train each kind of network for a second to estimate the time."
        ),
    ] = True,
    storage: Storage = None,
    data_root: DataRoot = None,
    task: TaskName = None,
    model: Model = None,
    data: Data = None,
    device: Device = "auto",
    as_json: Json = False,
) -> int:
    """Estimate the cost of a search before launching it: trials, training steps, hours and storage.

    Training shared by several trials is counted once, and what the storage already has is subtracted. Nothing is
    stored. To estimate the time, each kind of network is trained for about a second, unless you pass --no-calibrate.
    """
    values = read_sets(sets) | ({} if trials is None else {"search.trials": trials})
    from prune_search.api.plan import plan as plan_search
    from prune_search.api.where import Where

    planned = plan_search(
        space, set=values, where=Where(data_root, storage, model, data, device, task=task), calibrated=calibrated
    )
    if as_json:
        typer.echo(json.dumps(planned.as_data(), allow_nan=False))
    else:
        _show(planned)
    return 0


def summary(planned: PlannedSearch) -> str:
    """The plan as one line."""
    made = planned.plan
    text = f"{made.trials:,} trials, {made.steps_shared:,} steps to train"
    if made.steps_unshared > made.steps_shared:
        text += f" ({made.steps_unshared:,} without sharing, {made.ceiling:.2f} times as many)"
    besides = {"controls": made.steps_controls, "finalists": made.steps_finalists}
    more = [name for name, steps in besides.items() if steps]
    return text + (f", and about {sum(besides.values()):,} for {' and '.join(more)}" if more else "")


def must_ask(planned: PlannedSearch) -> bool:
    """Whether a search is large enough to need confirmation."""
    made = planned.plan
    return made.steps_to_train > ASK_STEPS or made.trials > ASK_TRIALS


def agreed(planned: PlannedSearch) -> bool:
    """Ask at the terminal whether to launch a large search; False if standard input is not a terminal."""
    if not sys.stdin.isatty():
        return False
    return typer.confirm(f"{summary(planned)}. Launch it?", err=True)


def _show(planned: PlannedSearch) -> None:
    from rich.console import Console
    from rich.table import Table

    made = planned.plan
    grid = Table.grid(padding=(0, 2))
    for name, text in _lines(planned):
        grid.add_row(f"[bold]{name}[/bold]", text)
    console = Console(soft_wrap=False)
    console.print(grid, highlight=False)
    table = Table(title=f"first {len(made.first)} trials", box=None, header_style="bold")
    table.add_column("paradigm")
    table.add_column("steps", justify="right")
    table.add_column("sampled values")
    for row in made.as_data()["first"]:
        table.add_row(row["paradigm"], f"{row['steps']:,}", _params(row["params"]))
    console.print(table, highlight=False)
    for warning in made.warnings:
        console.print(f"[bold]warning[/bold]  {warning}", highlight=False)


def _lines(planned: PlannedSearch) -> list[tuple[str, str]]:
    from prune_search.cli.status import duration
    from prune_search.storage.sizes import shown_size

    made = planned.plan
    how = (
        "exactly as the search will propose them" if made.exact else "sampled at random; the search will choose others"
    )
    lines = [
        ("trials", f"{made.trials:,}, {made.recipes:,} distinct ({how})"),
        ("segments", f"{made.vertices:,} distinct of the {made.segments:,} that the trials need"),
        ("steps", f"{made.steps_shared:,} shared, {made.steps_unshared:,} without sharing"),
        *_expected(planned),
        *_stored(planned),
        ("ceiling", f"sharing saves at most a factor of {made.ceiling:.2f}"),
        ("controls", f"about {made.steps_controls:,} more steps"),
    ]
    if made.steps_finalists:
        lines.append(("finalists", f"at most about {made.steps_finalists:,} more steps, on new seeds"))
    if made.scheduler_share:
        lines.append(("scheduler", f"can save up to {made.scheduler_share:.0%} of the shared steps"))
    if planned.device_hours is not None and planned.storage_bytes is not None:
        device = planned.calibration[0][0].device
        lines.append(("time", f"about {duration(3600 * planned.device_hours)} on one {device} like this one"))
        waiting = max(item.seconds_waiting for item, _ in planned.calibration)
        if waiting:
            lines.append(("data", f"a step waits {1000 * waiting:.1f} ms for data: more workers may help"))
        lines.append(("storage", f"about {shown_size(planned.storage_bytes)} in {made.states:,} states"))
    return lines


def _expected(planned: PlannedSearch) -> list[tuple[str, str]]:
    expected, made = planned.plan.steps_expected, planned.plan
    if expected is None:
        return []
    share = f", {expected / made.steps_shared:.2f} times what random search would" if made.steps_shared else ""
    return [("expected", f"about {expected:,} steps{share}: what the sampler would train if it learned nothing")]


def _stored(planned: PlannedSearch) -> list[tuple[str, str]]:
    stored = planned.plan.steps_stored
    if not stored:
        return []
    return [("stored", f"{stored:,} of the shared steps, so {planned.plan.steps_shared - stored:,} are left to train")]


def _params(params: dict[str, Any]) -> str:
    from rich.markup import escape

    # The paradigm has a column.
    drawn = [(path, value) for path, value in params.items() if path != "any"]
    parts = [f"{path}={value:.4g}" if isinstance(value, float) else f"{path}={value}" for path, value in drawn]
    return escape(", ".join(parts[:MAX_PARAMS]) + (", …" if len(parts) > MAX_PARAMS else ""))
