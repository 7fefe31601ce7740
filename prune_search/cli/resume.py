"""``prune-search resume``: continue a search from its ledger."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from prune_search.cli.arguments import Data, DataRoot, Device, Json, Model, Storage, StorageBudget, TaskName, examples
from prune_search.cli.launch_arguments import Address, Heartbeat, TrackingUri
from prune_search.cli.outcome import finish
from prune_search.cli.searches import Name
from prune_search.cli.verbs import VERBS, Verb

EPILOG = examples("prune-search resume quickstart", "prune-search resume quickstart --fork")


@VERBS.register("resume", facts=Verb(epilog=EPILOG))
def resume(
    name: Name,
    fork: Annotated[
        bool,
        typer.Option("--fork", help="Start a new search from the edited space, reusing everything trained so far."),
    ] = False,
    new_name: Annotated[str | None, typer.Option("--name", help="Name of the new search that --fork starts.")] = None,
    storage: Storage = None,
    storage_budget: StorageBudget = None,
    data_root: DataRoot = None,
    task: TaskName = None,
    model: Model = None,
    data: Data = None,
    tracking_uri: TrackingUri = None,
    address: Address = None,
    device: Device = "auto",
    heartbeat: Heartbeat = 300.0,
    as_json: Json = False,
) -> int:
    """Continue a search from its ledger, each trial from its last stored state.

    If you launched the search yourself, its code and its MLflow server are found automatically; otherwise pass --task
    (or --model and --data) and --tracking-uri again.
    """
    from prune_search.api.search import Options
    from prune_search.api.search import resume as resume_search
    from prune_search.api.where import Where
    from prune_search.cli.watch import watching_search

    where = Where(data_root, storage, model, data, device, storage_budget, task=task)
    options = Options(new_name, tracking_uri, address, heartbeat)
    with watching_search(quiet=as_json and not sys.stderr.isatty()) as listener:
        outcome = resume_search(name, where=where, options=options, listener=listener, fork=fork)
    return finish(outcome, storage, as_json)
