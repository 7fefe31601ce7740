"""``prune-search sync`` and ``ui``: MLflow, delivered to and looked at."""

from __future__ import annotations

import json
import subprocess
from typing import Annotated

import typer

from prune_search.cli.arguments import Json, Storage
from prune_search.cli.exits import FAILED, complain
from prune_search.cli.searches import Name, find_search, storage_folder
from prune_search.cli.verbs import VERBS, Verb


@VERBS.register("sync", facts=Verb(epilog="Example:  prune-search sync quickstart"))
def sync(
    name: Name,
    tracking_uri: Annotated[str | None, typer.Option("--tracking-uri", help="Default: the search's own.")] = None,
    storage: Storage = None,
    as_json: Json = False,
) -> int:
    """Deliver to MLflow what it has not got yet. Delivering twice changes nothing."""
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
            f"{name}: " + (", ".join(f"{value} {key}" for key, value in counts.items() if value) or "all is there")
        )
    return 0


@VERBS.register("ui", facts=Verb(epilog="Example:  prune-search ui --port 5001"))
def ui(
    tracking_uri: Annotated[str | None, typer.Option("--tracking-uri", help="Default: the storage's.")] = None,
    host: Annotated[str, typer.Option("--host", help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=1, max=65535)] = 5000,
    allowed_hosts: Annotated[
        str | None, typer.Option("--allowed-hosts", help="Names by which browsers may call it; for other hosts.")
    ] = None,
    auth: Annotated[
        bool,
        typer.Option(
            "--auth", help="Ask for name and password; the first user's are MLFLOW_AUTH_ADMIN_USERNAME and _PASSWORD."
        ),
    ] = False,
    artifacts: Annotated[
        str | None, typer.Option("--artifacts", metavar="PLACE", help="Files, s3://… too. Default: in the storage.")
    ] = None,
    storage: Storage = None,
) -> int:
    """Serve MLflow's pages on the storage's runs, on this machine only. Ctrl-C ends it."""
    from prune_search.tracking.store import Serving, absolute_uri, default_uri, ui_command, ui_environment

    folder = storage_folder(storage)
    uri = default_uri(folder) if tracking_uri is None else absolute_uri(tracking_uri, folder)
    serving = Serving(host, port, allowed_hosts, auth, artifacts)
    command, environment = ui_command(folder, uri, serving), ui_environment(folder, uri, serving)
    typer.echo(f"MLflow on http://{host}:{port} (it takes some ten seconds to answer; Ctrl-C ends it)")
    return subprocess.run(command, env=environment, check=False).returncode  # noqa: S603 - our own command
