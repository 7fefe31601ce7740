"""``prune-search launch`` and ``resume``: run a search and show its progress."""

from __future__ import annotations

import json
import sys
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
    examples,
    read_sets,
)
from prune_search.cli.exits import FAILED, complain
from prune_search.cli.plan import ASKED, agreed, must_ask, summary
from prune_search.cli.verbs import VERBS, Verb
from prune_search.recipe.problems import Problem, UserError

if TYPE_CHECKING:
    from prune_search.api.search import Options, Outcome
    from prune_search.api.where import Where
    from prune_search.recipe.space import Space

LAUNCH_EPILOG = examples(
    "prune-search launch quickstart",
    "prune-search launch search_spaces/lottery_ticket.yaml --data-root ~/data --trials 32 --concurrency 4",
    "prune-search launch quickstart --simulate --trials 1000",
    "prune-search launch my.yaml --name first --set search.sampler=random --tracking-uri http://localhost:5000",
)
RESUME_EPILOG = examples("prune-search resume quickstart", "prune-search resume quickstart --fork")

Name = Annotated[str | None, typer.Option("--name", help="Name of the search. Default: the name of the space file.")]
Address = Annotated[
    str | None, typer.Option("--address", help="Address of a Ray cluster. Default: start Ray on this machine.")
]
TrackingUri = Annotated[
    str | None, typer.Option("--tracking-uri", help="MLflow tracking URI. Default: an SQLite database in the storage.")
]
Heartbeat = Annotated[
    float,
    typer.Option("--heartbeat", min=1.0, help="Restart a worker after this many seconds without a training step."),
]


@VERBS.register("launch", facts=Verb(epilog=LAUNCH_EPILOG))
def launch(
    space: Annotated[
        str, typer.Argument(metavar="SPACE", help="Space file, or the name of a space that ships with the package.")
    ],
    name: Name = None,
    sets: Sets = None,
    storage: Storage = None,
    storage_budget: StorageBudget = None,
    trials: Annotated[int | None, typer.Option("--trials", help="Number of trials.")] = None,
    concurrency: Annotated[
        int | None, typer.Option("--concurrency", help="Number of trials that run at the same time.")
    ] = None,
    cpus_per_trial: Annotated[
        float | None, typer.Option("--cpus-per-trial", help="CPUs per trial; fractions are allowed.")
    ] = None,
    gpus_per_trial: Annotated[
        float | None, typer.Option("--gpus-per-trial", help="GPUs per trial; fractions are allowed.")
    ] = None,
    workers_per_trial: Annotated[
        int | None, typer.Option("--workers-per-trial", help="Workers per trial (data-parallel training).")
    ] = None,
    seed: Annotated[int | None, typer.Option("--seed", help="Random seed of the sampler.")] = None,
    time_budget: Annotated[
        float | None, typer.Option("--time-budget", help="Stop proposing trials after this many seconds.")
    ] = None,
    max_failures: Annotated[
        int | None, typer.Option("--max-failures", help="Number of retries after a trial dies.")
    ] = None,
    address: Address = None,
    tracking_uri: TrackingUri = None,
    data_root: DataRoot = None,
    model: Model = None,
    data: Data = None,
    device: Device = "auto",
    heartbeat: Heartbeat = 300.0,
    share: Annotated[
        bool,
        typer.Option(
            "--share/--no-share",
            help="Share training that several trials have in common. Use --no-share only for comparisons.",
        ),
    ] = True,
    simulate: Annotated[
        bool, typer.Option("--simulate", help="Train nothing; a response surface supplies the results of the trials.")
    ] = False,
    surface: Annotated[
        str | None,
        typer.Option(
            "--surface",
            help="Simulate with this surface (`prune-search methods` lists them) or with the networks in FILE.csv.",
        ),
    ] = None,
    system_metrics: Annotated[
        bool, typer.Option("--system-metrics", help="Also log the memory of trials and of their GPUs to MLflow.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help=ASKED)] = False,
    as_json: Json = False,
) -> int:
    """Search a space of recipes on Ray, and log every trial to MLflow.

    Ctrl-C stores the training state and stops; `prune-search resume NAME` continues from there.
    """
    flags = {
        "trials": trials,
        "concurrency": concurrency,
        "cpus_per_trial": cpus_per_trial,
        "gpus_per_trial": gpus_per_trial,
        "workers_per_trial": workers_per_trial,
        "seed": seed,
        "time_budget": time_budget,
        "max_failures": max_failures,
    }
    values = read_sets(sets) | {f"search.{key}": value for key, value in flags.items() if value is not None}
    from prune_search.api.search import Options, check_options
    from prune_search.api.search import launch as launch_space
    from prune_search.api.target import read_search_space
    from prune_search.api.where import Where
    from prune_search.cli.watch import watching_search
    from prune_search.simulation.surface import DEFAULT

    where = Where(data_root, storage, model, data, device, storage_budget)
    simulated = surface_written(surface) if surface is not None else DEFAULT if simulate else None
    options = Options(name, tracking_uri, address, heartbeat, share, simulated, system_metrics)
    check_options(options, where)
    searched = read_search_space(space, [*values.items(), *where.assignments()])
    if simulated is None:
        _tell_plan(space, searched, where, yes, quiet=as_json)
    with watching_search(quiet=as_json and not sys.stderr.isatty()) as listener:
        outcome = launch_space(searched, set=values, where=where, options=options, listener=listener)
    return finish(outcome, storage, as_json)


def _tell_plan(name: str, space: Space, where: Where, yes: bool, quiet: bool) -> None:
    """Print what the search will train, and ask for confirmation if it is very large.

    Raises:
        UserError: the user did not confirm.
    """
    from prune_search.api.plan import plan

    planned = plan(space, where=where, calibrated=False, stored=False)
    if not quiet:
        complain(f"{summary(planned)}. For details: prune-search plan")
        for warning in planned.plan.warnings:
            complain(f"warning: {warning}")
    if must_ask(planned) and not yes and not agreed(planned):
        text = f"{summary(planned)}. Confirm a search of this size with --yes (for details: prune-search plan)"
        raise UserError([Problem("", text, name)])


def surface_written(text: str) -> Any:
    """Parse the value of ``--surface``: a name, a path, or a YAML mapping.

    Raises:
        UserError: the mapping is not valid YAML.
    """
    from prune_search.recipe import strict_yaml
    from prune_search.recipe.problems import shown

    if not text.lstrip().startswith("{"):
        return text
    try:
        return strict_yaml.scalar(text)
    except UserError as error:
        raise UserError(Problem("--surface", f"{p.message} (got {shown(text)})") for p in error.problems) from None


@VERBS.register("resume", facts=Verb(epilog=RESUME_EPILOG))
def resume(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Name of the search; `prune-search list` shows them.")],
    fork: Annotated[
        bool,
        typer.Option("--fork", help="Start a new search from the edited space, reusing everything trained so far."),
    ] = False,
    new_name: Annotated[str | None, typer.Option("--name", help="Name of the new search that --fork starts.")] = None,
    storage: Storage = None,
    storage_budget: StorageBudget = None,
    data_root: DataRoot = None,
    model: Model = None,
    data: Data = None,
    tracking_uri: TrackingUri = None,
    address: Address = None,
    device: Device = "auto",
    heartbeat: Heartbeat = 300.0,
    as_json: Json = False,
) -> int:
    """Continue a search from its ledger, each trial from its last stored state.

    If you launched the search yourself, its code and its MLflow server are found automatically; otherwise pass --model,
    --data and --tracking-uri again.
    """
    from prune_search.api.search import Options
    from prune_search.api.search import resume as resume_search
    from prune_search.api.where import Where
    from prune_search.cli.watch import watching_search

    where = Where(data_root, storage, model, data, device, storage_budget)
    options: Options = Options(new_name, tracking_uri, address, heartbeat)
    with watching_search(quiet=as_json and not sys.stderr.isatty()) as listener:
        outcome = resume_search(name, where=where, options=options, listener=listener, fork=fork)
    return finish(outcome, storage, as_json)


def finish(outcome: Outcome, storage: str | None, as_json: bool) -> int:
    """Print how a search ended and what to run next; return the exit code."""
    from prune_search.api.where import storage_option
    from prune_search.ledger.uris import masked

    data = outcome.as_data()
    typed = f"{data['name']}{storage_option(storage)}"
    if as_json:
        typer.echo(json.dumps(data, allow_nan=False))
    else:
        _show(outcome, data, storage)
    if data["undelivered"]:
        count, uri = data["undelivered"], masked(data["tracking_uri"])
        text = f"{count} records have not reached MLflow at {uri} yet: {data['undelivered_reason'].rstrip('.')}."
        complain(f"{text} Deliver them later with: prune-search sync {typed}")
    if outcome.signal is not None:
        complain(f"Stopped; training states are stored. Continue with: prune-search resume {typed}")
        return 128 + outcome.signal
    return 0 if data["trials"]["completed"] else FAILED


def _show(outcome: Outcome, data: dict[str, Any], storage: str | None) -> None:
    from prune_search.api.where import storage_option
    from prune_search.cli.comparison import show_comparison
    from prune_search.cli.status import duration, steps_line
    from prune_search.report.compare import compare_data

    if outcome.signal is None:
        show_comparison(compare_data([outcome.records]), storage)
        typer.echo(f"next  prune-search ui{storage_option(storage)}  (all trials in the MLflow UI)")
    counts = ", ".join(f"{count} {name}" for name, count in data["trials"].items() if count)
    typer.echo(f"{data['name']}: {counts or 'no trials'} in {duration(data['wall_s'])}; steps: {steps_line(data)}")
