"""``prune-search sync``: deliver a search's outstanding records to MLflow."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from prune_search.cli.arguments import Json, Storage, examples
from prune_search.cli.exits import FAILED, complain
from prune_search.cli.searches import Name, find_search, storage_folder
from prune_search.cli.verbs import VERBS, Verb


@VERBS.register("sync", facts=Verb(epilog=examples("prune-search sync quickstart")))
def sync(
    name: Name,
    tracking_uri: Annotated[
        str | None,
        typer.Option("--tracking-uri", help="MLflow tracking URI. Default: that of the launch."),
    ] = None,
    storage: Storage = None,
    as_json: Json = False,
) -> int:
    """Deliver a search's outstanding records to MLflow. Running it twice changes nothing."""
    folder = find_search(storage, name)
    from prune_search.tracking.delivery_thread import TrackingError
    from prune_search.tracking.delivery_thread import sync as deliver

    if tracking_uri is None:
        from prune_search.api.trust import check_tracking, checked
        from prune_search.ledger.records import read_search

        definition = checked(read_search(folder, trials=False).definition, name)
        check_tracking(definition, storage_folder(storage), None, name)
    try:
        delivered = deliver(folder, tracking_uri)
    except TrackingError as error:
        complain(str(error))
        return FAILED
    counts = {key: value for key, value in vars(delivered).items() if isinstance(value, int)}
    if as_json:
        typer.echo(json.dumps({"name": name, **counts}))
    else:
        typer.echo(
            f"{name}: " + (", ".join(f"{value} {key}" for key, value in counts.items() if value) or "up to date")
        )
    return 0
