"""Every value of every axis as plain data: what the command line, the README and tests show."""

from __future__ import annotations

from typing import Any

from prune_search.recipe.axes import AXES
from prune_search.recipe.registry import REQUIRED, Entry


def table() -> list[dict[str, Any]]:
    """One row per registered value: axis, key, name, summary, source, options."""
    return [_row(axis.key, entry) for axis in AXES for entry in sorted(axis.values(), key=lambda entry: entry.name)]


def _row(key: str, entry: Entry) -> dict[str, Any]:
    options = [
        {
            "name": name,
            "default": "required" if option.default is REQUIRED else option.default,
            "values": option.field.describe(),
            "doc": option.doc,
        }
        for name, option in entry.options.items()
    ]
    return {
        "axis": entry.axis,
        "key": key,
        "name": entry.name,
        "summary": entry.summary,
        "source": entry.source,
        "options": options,
    }
