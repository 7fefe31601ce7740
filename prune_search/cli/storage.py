"""``prune-search storage``: show what a storage contains, and clean it down to a budget."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Annotated, Any

import typer

from prune_search.cli.arguments import Json, Storage, examples
from prune_search.cli.searches import is_running, storage_folder
from prune_search.cli.verbs import VERBS, Verb

if TYPE_CHECKING:
    from prune_search.storage.inventory import Inventory
    from prune_search.storage.places import StoragePath

EPILOG = examples(
    "prune-search storage",
    "prune-search storage --budget 20GB            # show what would be removed",
    "prune-search storage --budget 20GB --clean",
    "prune-search storage --storage s3://bucket/team --clean --json",
)


@VERBS.register("storage", facts=Verb(epilog=EPILOG))
def storage(
    budget: Annotated[
        str | None,
        typer.Option(
            "--budget",
            metavar="SIZE",
            envvar="PRUNE_SEARCH_STORAGE_BUDGET",
            help="Maximum size of the stored states, e.g. 20GB.",
        ),
    ] = None,
    clean: Annotated[
        bool, typer.Option("--clean", help="Remove states down to the budget, and leftovers of dead processes.")
    ] = False,
    storage: Storage = None,
    as_json: Json = False,
) -> None:
    """Show what a storage contains: searches, training segments, states, their size and the time to retrain them.

    With a budget, the states that are cheapest to retrain per byte are removed first, and never those in use. A removed
    state is retrained bit for bit when it is needed again. Search records are never removed.
    """
    from prune_search.storage.budget import clean as clean_storage
    from prune_search.storage.inventory import take_inventory
    from prune_search.storage.sizes import read_size

    place = storage_folder(storage)
    size = None if budget is None else read_size(budget)
    data = _data(place, take_inventory(place), size)
    if clean:
        freed = clean_storage(place, size)
        data = {**_data(place, take_inventory(place), size), "freed": vars(freed)}
    if as_json:
        typer.echo(json.dumps(data, allow_nan=False))
    else:
        _show(data, clean)


def _data(place: StoragePath, inventory: Inventory, budget: int | None) -> dict[str, Any]:
    """The data of ``storage --json``: sizes in bytes, costs in seconds of training."""
    from prune_search.ledger.records import list_searches, search_folder
    from prune_search.storage.budget import to_remove

    searches = list_searches(place)
    used = inventory.in_use()
    going = to_remove(inventory, budget) if budget is not None else []
    lost = [state.key for state in going]
    return {
        "storage": str(place),
        "searches": len(searches),
        "running": sum(is_running(search_folder(place, name)) for name in searches),
        "vertices": len({address for address, _ in inventory.states}),
        "states": len(inventory.states),
        "invalid": sum(not state.valid for state in inventory.states.values()),
        "bytes": inventory.size,
        "in_use": {"states": len(used), "bytes": sum(inventory.states[key].size for key in used)},
        "rebuild_seconds": inventory.rebuilding(inventory.states, ()),
        "budget": budget,
        "would_go": {
            "states": len(going),
            "bytes": sum(state.size for state in going),
            "rebuild_seconds": inventory.rebuilding(lost, inventory.states.keys() - set(lost)),
        },
        "rows": _rows(inventory, used),
    }


def _rows(inventory: Inventory, used: set[tuple[str, int]]) -> list[dict[str, Any]]:
    """One row per kind of segment, with the cost of retraining all its states while the others are kept."""
    kinds: dict[str, list[tuple[str, int]]] = {}
    for key, state in sorted(inventory.states.items()):
        kinds.setdefault(re.sub(r" \(round [0-9]+\)", "", state.name) or "unknown", []).append(key)
    return [
        {
            "stretch": kind,
            "vertices": len({address for address, _ in keys}),
            "states": len(keys),
            "bytes": sum(inventory.states[key].size for key in keys),
            "rebuild_seconds": inventory.rebuilding(keys, inventory.states.keys() - set(keys)),
            "in_use": len(used.intersection(keys)),
        }
        for kind, keys in sorted(kinds.items())
    ]


def _show(data: dict[str, Any], cleaned: bool) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from prune_search.cli.status import duration
    from prune_search.storage.sizes import shown_size

    title = f"{data['storage']}: {data['searches']} searches, {data['running']} running"
    table = Table("kind", "segments", "states", "size", "to retrain", "in use", title=escape(title))
    for row in data["rows"]:
        cost = duration(row["rebuild_seconds"])
        counts = [str(row[key]) for key in ("vertices", "states")]
        table.add_row(escape(row["stretch"]), *counts, shown_size(row["bytes"]), cost, str(row["in_use"]))
    table.add_section()
    counts = [str(data[key]) for key in ("vertices", "states")]
    cost = duration(data["rebuild_seconds"])
    table.add_row("all", *counts, shown_size(data["bytes"]), cost, str(data["in_use"]["states"]))
    Console(highlight=False).print(table)
    if cleaned:
        freed = data["freed"]
        typer.echo(
            f"removed {freed['states']} states ({shown_size(freed['size'])}) and {freed['leftovers']} leftovers of "
            "dead processes"
        )
    if data["budget"] is None:
        return
    going = data["would_go"]
    if going["states"]:
        cost = duration(going["rebuild_seconds"])
        size = shown_size(going["bytes"])
        typer.echo(f"--clean would remove {going['states']} states ({size}, {cost} of training)")
    if data["bytes"] - going["bytes"] > data["budget"]:
        over = shown_size(data["bytes"] - going["bytes"] - data["budget"])
        typer.echo(f"states in use are kept: {over} over the budget of {shown_size(data['budget'])}")
