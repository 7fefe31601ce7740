"""``prune-search export``: the best recipe of a search as a folder that anyone can run again."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from prune_search.cli.arguments import Data, DataRoot, Device, Json, Model, Storage
from prune_search.cli.searches import Name

EPILOG = (
    "Examples:  prune-search export quickstart --to best  ·  "
    "prune-search export quickstart --to ticket --trial 012-lottery-ticket-s0.90 --seeds 3  ·  "
    "prune-search run best --verify"
)


def add_to(app: typer.Typer) -> None:
    """Add the verb to the command line."""
    app.command("export", epilog=EPILOG)(export)


def export(
    name: Name,
    to: Annotated[Path, typer.Option("--to", metavar="DIR", help="The folder to write.")],
    trial: Annotated[
        str | None, typer.Option("--trial", metavar="KEY", help="Name or key of a trial. Default: the best.")
    ] = None,
    seeds: Annotated[
        int, typer.Option("--seeds", help="Retrain with further seeds; the card shows mean ± deviation.")
    ] = 1,
    storage: Storage = None,
    data_root: DataRoot = None,
    model: Model = None,
    data: Data = None,
    device: Device = "auto",
    as_json: Json = False,
) -> None:
    """Write recipe.yaml, model.safetensors, masks.safetensors, metrics.json and a card, README.md.

    A search of your own finds its code by itself; one that somebody else launched needs --model and --data again.
    """
    from prune_search.api import Where
    from prune_search.cli.progress import watching
    from prune_search.exports import export as export_search

    where = Where(data_root, storage, model, data, device)
    with watching(quiet=as_json and not sys.stderr.isatty()) as sink:
        result = export_search(name, to, trial=trial, seeds=seeds, where=where, sink=sink)
    if as_json:
        typer.echo(json.dumps({"folder": str(to.absolute()), **result.as_data()}, allow_nan=False))
        return
    from prune_search.cli.summary import show_result

    show_result(result, to)
