"""``prune-search launch``: run a search and show its progress."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from prune_search.cli import launch_arguments as own
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
    read_sets,
)
from prune_search.cli.exits import complain
from prune_search.cli.outcome import finish
from prune_search.cli.plan import agreed, must_ask, summary
from prune_search.cli.verbs import VERBS, Verb
from prune_search.recipe.problems import Problem, UserError

if TYPE_CHECKING:
    from prune_search.api.where import Where
    from prune_search.recipe.space import Space

EPILOG = examples(
    "prune-search launch quickstart",
    "prune-search launch search_spaces/lottery_ticket.yaml --data-root ~/data --trials 32 --concurrency 4",
    "prune-search launch pretrained --task my_task:task --set search.trials=12",
    "prune-search launch quickstart --simulate --trials 1000",
    "prune-search launch my.yaml --name first --set search.sampler=random --tracking-uri http://localhost:5000",
)


@VERBS.register("launch", facts=Verb(epilog=EPILOG))
def launch(
    space: Annotated[
        str, typer.Argument(metavar="SPACE", help="Space file, or the name of a space that ships with the package.")
    ],
    name: own.Name = None,
    sets: Sets = None,
    storage: Storage = None,
    storage_budget: StorageBudget = None,
    trials: own.Trials = None,
    concurrency: own.Concurrency = None,
    cpus_per_trial: own.CpusPerTrial = None,
    gpus_per_trial: own.GpusPerTrial = None,
    workers_per_trial: own.WorkersPerTrial = None,
    sharded: own.Sharded = None,
    seed: own.Seed = None,
    time_budget: own.TimeBudget = None,
    max_failures: own.MaxFailures = None,
    address: own.Address = None,
    tracking_uri: own.TrackingUri = None,
    data_root: DataRoot = None,
    task: TaskName = None,
    model: Model = None,
    data: Data = None,
    device: Device = "auto",
    heartbeat: own.Heartbeat = 300.0,
    share: own.Share = True,
    simulate: own.Simulate = False,
    surface: own.Surface = None,
    system_metrics: own.SystemMetrics = False,
    yes: own.Yes = False,
    as_json: Json = False,
) -> int:
    """Search a space of recipes on Ray, and log every trial to MLflow.

    Ctrl-C stores the training state and stops; `prune-search resume NAME` continues from there.
    """
    flags = _search_block(
        trials=trials,
        concurrency=concurrency,
        cpus_per_trial=cpus_per_trial,
        gpus_per_trial=gpus_per_trial,
        workers_per_trial=workers_per_trial,
        sharded=sharded,
        seed=seed,
        time_budget=time_budget,
        max_failures=max_failures,
    )
    values = read_sets(sets) | flags
    from prune_search.api.search import Options, check_options
    from prune_search.api.search import launch as launch_space
    from prune_search.api.target import read_search_space
    from prune_search.api.where import Where
    from prune_search.cli.watch import watching_search

    where = Where(data_root, storage, model, data, device, storage_budget, task=task)
    simulated = surface_written(surface, simulate)
    options = Options(name, tracking_uri, address, heartbeat, share, simulated, system_metrics)
    check_options(options, where)
    searched = read_search_space(space, [*where.values(values).items()])
    if simulated is None:
        _tell_plan(space, searched, where, yes, quiet=as_json)
    with watching_search(quiet=as_json and not sys.stderr.isatty()) as listener:
        outcome = launch_space(searched, set=values, where=where, options=options, listener=listener)
    return finish(outcome, storage, as_json)


def _search_block(**flags: float | None) -> dict[str, Any]:
    """The flags that were given, as keys of the search block."""
    return {f"search.{key}": value for key, value in flags.items() if value is not None}


def _tell_plan(name: str, space: Space, where: Where, yes: bool, quiet: bool) -> None:
    """Print what the search will train, and ask for confirmation if it is very large.

    Raises:
        UserError: the user did not confirm.
    """
    from prune_search.api.plan import plan

    planned = plan(space, where=where, calibrated=False, stored=False, foreseen=False)
    if not quiet:
        complain(f"{summary(planned)}. For details: prune-search plan")
        for warning in planned.plan.warnings:
            complain(f"warning: {warning}")
    if must_ask(planned) and not yes and not agreed(planned):
        text = f"{summary(planned)}. Confirm a search of this size with --yes (for details: prune-search plan)"
        raise UserError([Problem("", text, name)])


def surface_written(text: str | None, simulate: bool = False) -> Any:
    """Parse the value of ``--surface``: a name, a path, or a YAML mapping.

    Args:
        text: the value; None where the option was not given.
        simulate: whether ``--simulate`` was given: then the default surface stands for none.

    Returns:
        What `Options.simulate` takes; None: the trials are trained.

    Raises:
        UserError: the mapping is not valid YAML.
    """
    from prune_search.recipe import strict_yaml
    from prune_search.recipe.problems import shown
    from prune_search.simulation.surface import DEFAULT

    if text is None:
        return DEFAULT if simulate else None
    if not text.lstrip().startswith("{"):
        return text
    try:
        return strict_yaml.scalar(text)
    except UserError as error:
        raise UserError(Problem("--surface", f"{p.message} (got {shown(text)})") for p in error.problems) from None
