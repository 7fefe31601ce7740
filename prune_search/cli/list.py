"""``prune-search list``: list the searches in a storage."""

from __future__ import annotations

import json
import time
from typing import Any

import typer

from prune_search.cli.arguments import Json, Storage, examples
from prune_search.cli.exits import as_called
from prune_search.cli.searches import is_running, storage_folder
from prune_search.cli.verbs import VERBS, Verb

EPILOG = examples("prune-search list", "prune-search list --storage /shared/store --json")


@VERBS.register("list", facts=Verb(epilog=EPILOG))
def list_searches(storage: Storage = None, as_json: Json = False) -> None:
    """List the searches in a storage with their state, finished trials and best result."""
    from prune_search.report.status import list_data

    root = storage_folder(storage)
    rows = list_data(root, is_running)
    if as_json:
        typer.echo(json.dumps({"storage": str(root), "searches": rows}, allow_nan=False))
    elif not rows:
        typer.echo(as_called(f"no searches in {root}. Start one with: prune-search launch quickstart"))
    else:
        _show(rows)


def _show(rows: list[dict[str, Any]]) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from prune_search.recipe.metric_names import ACCURACY
    from prune_search.report.labels import SPARSITIES

    table = Table("search", "state", "task", "done", "best", "measured", "sparsity", "of all params", "started")
    for row in rows:
        if "error" in row:
            table.add_row(escape(row["name"]), row["state"], escape(row["error"]))
            continue
        best = row["best"] or {}
        metrics = best.get("metrics", {})
        measured = next((name for name in row.get("objectives", []) if name.startswith("val/")), ACCURACY)
        shown = metrics.get(measured)
        quoted = "" if shown is None else f"{measured.partition('/')[2]} {shown:.4f}"
        figures = [metrics.get(name) for name in SPARSITIES]
        trials = row["trials"]
        done = sum(trials.get(key, 0) for key in ("completed", "stopped", "paused", "failed", "duplicates"))
        begun = "" if row["created"] is None else time.strftime("%Y-%m-%d %H:%M", time.localtime(row["created"]))
        table.add_row(
            escape(row["name"]),
            row["state"],
            escape(" on ".join(str(row["task"][key]) for key in ("model", "data") if row["task"].get(key))),
            f"{done} of {row['planned']}",
            escape(str(best.get("paradigm", ""))),
            escape(quoted),
            *("" if value is None else f"{value:.4f}" for value in figures),
            begun,
        )
    Console(highlight=False).print(table)
