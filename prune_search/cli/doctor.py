"""``prune-search doctor``: whether everything that a search needs is there."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from prune_search.cli.arguments import Json, Storage
from prune_search.cli.exits import MEND
from prune_search.cli.verbs import VERBS, Verb

EPILOG = (
    "Examples:  prune-search doctor  ·  "
    "prune-search doctor --address head:6379 --storage s3://studies/first --tracking-uri http://mlflow:5000"
)


@VERBS.register("doctor", facts=Verb(epilog=EPILOG))
def doctor(
    address: Annotated[
        str | None, typer.Option("--address", help="A Ray cluster, HOST:6379. Default: this machine.")
    ] = None,
    storage: Storage = None,
    tracking_uri: Annotated[
        str | None, typer.Option("--tracking-uri", help="MLflow. Default: SQLite in the storage.")
    ] = None,
    as_json: Json = False,
) -> int:
    """Look at versions, GPUs, disk and clocks of all nodes, at the token, the storage and MLflow.

    Every line is ok, or says what to do; exit code 1 when something must be mended. Nothing is left behind.
    """
    from prune_search.api.doctor import examine

    findings = examine(address, storage, tracking_uri)
    healthy = all(finding.ok for finding in findings)
    if as_json:
        typer.echo(json.dumps({"ok": healthy, "findings": [finding.as_data() for finding in findings]}))
    else:
        for finding in findings:
            typer.echo(f"{'ok  ' if finding.ok else 'mend'}  {finding.what:<18}  {finding.said}")
            if finding.mend:
                typer.echo(f"      {'':<18}  → {finding.mend}")
    return 0 if healthy else MEND
