"""Every value of every axis as plain data, for the command line, the guide and tests."""

from __future__ import annotations

import re
from typing import Any

from prune_search.recipe import axes
from prune_search.recipe.axes import AXES
from prune_search.recipe.registry import REQUIRED, AnyEntry


def table() -> list[dict[str, Any]]:
    """One row per registered value: axis, key, name, summary, source, options."""
    return [_row(axis.key, entry) for axis in AXES for entry in axis.listed()]


# The number of a paper at arXiv.
_PAPER = re.compile(r"(?<![\w/.-])(\d{4}\.\d{4,5})(?![\w/-])")
# The axes of the guide's table: what a mask, weights and a retraining are made of, and the papers as presets.
PRUNING = (
    axes.PRESETS,
    axes.CRITERIA,
    axes.NORMALIZATIONS,
    axes.GRANULARITIES,
    axes.SCOPES,
    axes.PATHS,
    axes.CONTROLS,
    axes.TRANSFORMS,
    axes.DYNAMICS,
)


def markdown() -> str:
    """The methods table of the guide: one table for the pruning axes, rows in the order of the axes."""
    names = [axis.name for axis in PRUNING]
    rows = sorted((row for row in table() if row["axis"] in names), key=lambda row: names.index(row["axis"]))
    lines = ["| axis | name | what it is | source |", "|---|---|---|---|"]
    for row in rows:
        source = _PAPER.sub(lambda found: f"[{found[1]}](https://arxiv.org/abs/{found[1]})", row["source"])
        cells = (row["axis"], f"`{row['name']}`", row["summary"], source)
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines)


def _row(key: str, entry: AnyEntry) -> dict[str, Any]:
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
        "name": entry.shown,
        "summary": entry.summary,
        "source": entry.source,
        "options": options,
    }
