"""``prune-search ui``: serve the MLflow UI for the runs in a storage."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from prune_search.cli.arguments import Storage, examples
from prune_search.cli.exits import FAILED, complain
from prune_search.cli.searches import storage_folder
from prune_search.cli.verbs import VERBS, Verb

# Searches whose tables are named.
SHOWN = 5


@VERBS.register("ui", facts=Verb(epilog=examples("prune-search ui", "prune-search ui --port 5001")))
def ui(
    tracking_uri: Annotated[
        str | None, typer.Option("--tracking-uri", help="MLflow tracking URI. Default: the database in the storage.")
    ] = None,
    host: Annotated[str, typer.Option("--host", help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=1, max=65535, help="Port to listen on.")] = 5000,
    allowed_hosts: Annotated[
        str | None,
        typer.Option(
            "--allowed-hosts",
            help="Host names that browsers may use to reach the server; needed when it serves other machines.",
        ),
    ] = None,
    auth: Annotated[
        bool,
        typer.Option(
            "--auth",
            help="Require a login. MLFLOW_AUTH_ADMIN_USERNAME and MLFLOW_AUTH_ADMIN_PASSWORD set the first user.",
        ),
    ] = False,
    artifacts: Annotated[
        str | None,
        typer.Option(
            "--artifacts",
            metavar="PLACE",
            help="Where MLflow keeps files; s3://… works too. Default: inside the storage.",
        ),
    ] = None,
    storage: Storage = None,
) -> int:
    """Serve the MLflow UI for the runs in the storage, on this machine only. Stop it with Ctrl-C."""
    from prune_search.tracking.server import UnreachableError, prepare
    from prune_search.tracking.serving import check_free, serve
    from prune_search.tracking.store import Serving, absolute_uri, ui_command, ui_environment

    folder = storage_folder(storage)
    uri = absolute_uri(tracking_uri or "", folder)
    serving = Serving(host, port, allowed_hosts, auth, artifacts)
    command, environment = ui_command(folder, uri, serving), ui_environment(folder, uri, serving)
    check_free(host, port)
    try:
        prepare(uri)
    except UnreachableError as error:
        complain(str(error))
        return FAILED
    # Told before the server writes its own lines.
    typer.echo(f"MLflow on http://{host}:{port} (it needs about ten seconds to start; stop it with Ctrl-C)")
    for name, address in _tables(storage, f"http://{host}:{port}", tracking_uri is None):
        typer.echo(f"  {name}: {address}")
    sys.stdout.flush()
    return serve(command, environment)


def _tables(storage: str | None, server: str, of_storage: bool) -> list[tuple[str, str]]:
    """The latest searches with the addresses of their prepared tables, the last one first."""
    from prune_search.cli.searches import latest_searches, read
    from prune_search.ledger.records import search_folder
    from prune_search.tracking.addresses import table_address

    found = []
    for name in latest_searches(storage)[:SHOWN] if of_storage else ():
        address = table_address(read(search_folder(storage_folder(storage), name)), server)
        if address is not None:
            found.append((name, address))
    return found
