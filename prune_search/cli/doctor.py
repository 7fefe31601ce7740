"""``prune-search doctor``: check that everything a search needs is in place."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from prune_search.cli.arguments import Json, Storage, examples
from prune_search.cli.exits import MEND
from prune_search.cli.verbs import VERBS, Verb

EPILOG = examples(
    "prune-search doctor",
    "prune-search doctor --address head:6379 --storage s3://studies/first --tracking-uri http://mlflow:5000",
)


@VERBS.register("doctor", facts=Verb(epilog=EPILOG))
def doctor(
    address: Annotated[
        str | None, typer.Option("--address", help="Ray cluster to check, as HOST:6379. Default: this machine.")
    ] = None,
    storage: Storage = None,
    tracking_uri: Annotated[
        str | None,
        typer.Option("--tracking-uri", help="MLflow tracking URI. Default: an SQLite database in the storage."),
    ] = None,
    as_json: Json = False,
) -> int:
    """Check versions, GPUs, disk space and clocks of every node, plus the Ray token, the storage and MLflow.

    Each line is either ok or says how to fix the problem. The exit code is 1 if anything needs fixing. The checks leave
    no files behind.
    """
    from prune_search.api.doctor import examine

    findings = examine(address, storage, tracking_uri)
    healthy = all(finding.ok for finding in findings)
    if as_json:
        typer.echo(json.dumps({"ok": healthy, "findings": [finding.as_data() for finding in findings]}))
    else:
        for finding in findings:
            typer.echo(f"{'ok  ' if finding.ok else 'fix '}  {finding.what:<18}  {finding.said}")
            if finding.mend:
                typer.echo(f"      {'':<18}  → {finding.mend}")
    return 0 if healthy else MEND
