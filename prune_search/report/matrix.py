"""Which paradigm wins at which sparsity: the best, the spread and the number of trials of each pair. No torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from prune_search.recipe.metric_names import quality
from prune_search.recipe.search_block import parse_objective
from prune_search.report.filters import Filters

# Reached sparsities that lie no further apart are one column: masks cannot always be met exactly.
SAME = 0.005
MAX_BANDS = 6
# Lower ends of the columns where there are more sparsities than that.
EDGES = (0.0, 0.5, 0.8, 0.9, 0.95, 0.98, 0.99)
WITHIN = "1%"


def matrix_data(rows: Sequence[Mapping[str, Any]], metric: str, direction: str) -> dict[str, Any]:
    """Paradigms over sparsities.

    Args:
        rows: of a comparison, as data.
        metric: whose best figure stands in a cell.
        direction: ``maximize`` or ``minimize`` it.

    Returns:
        ``metric``; ``bands``, the [lowest, highest] reached sparsity of each column; ``paradigms``, the one with the
        most best cells first, each with its ``cells``: ``best``, ``worst``, ``trials``, ``name`` of the best trial and
        whether it is the ``first`` of its column, or None where there is no trial. Empty lists where nothing completed.
    """
    done = [row for row in rows if row["status"] == "completed" and {metric, "sparsity"} <= row["metrics"].keys()]
    bands = _bands([row["metrics"]["sparsity"] for row in done])
    sign = 1.0 if direction == "maximize" else -1.0
    cells: dict[str, list[dict[str, Any] | None]] = {}
    for row in sorted(done, key=lambda row: -sign * row["metrics"][metric]):
        place = next(at for at, (_, high) in enumerate(bands) if row["metrics"]["sparsity"] <= high)
        found = cells.setdefault(row["paradigm"], [None] * len(bands))
        value, cell = row["metrics"][metric], found[place]
        if cell is None:
            first = all(others[place] is None for others in cells.values())
            found[place] = {"best": value, "worst": value, "trials": row["seeds"], "name": row["name"], "first": first}
        else:
            found[place] = {**cell, "worst": value, "trials": cell["trials"] + row["seeds"]}
    order = sorted(cells, key=lambda name: -sum(cell is not None and cell["first"] for cell in cells[name]))
    return {"metric": metric, "bands": bands, "paradigms": [{"paradigm": p, "cells": cells[p]} for p in order]}


def _bands(sparsities: Sequence[float]) -> list[list[float]]:
    """Reached sparsities that go together, [lowest, highest] of each."""
    runs: list[list[float]] = []
    for value in sorted(sparsities):
        if runs and value - runs[-1][0] <= SAME:
            runs[-1].append(value)
        else:
            runs.append([value])
    if len(runs) > MAX_BANDS:
        ends = zip(EDGES, (*EDGES[1:], float("inf")), strict=True)
        runs = [[v for v in sorted(sparsities) if low <= v < high] for low, high in ends]
    return [[run[0], run[-1]] for run in runs if run]


def sparsest_data(rows: Sequence[Mapping[str, Any]], dense: Mapping[str, float], written: Sequence[str]) -> Any:
    """The sparsest row that is within one percent of the dense network, as compare names it; None where none is.

    Args:
        rows: of a comparison, as data.
        dense: metrics of the dense network.
        written: objectives, as in the search block; the first that is measured on data counts.
    """
    direction, metric = quality(map(parse_objective, written))
    if metric not in dense:
        return None
    relation, sign = (">=", "-") if direction == "maximize" else ("<=", "+")
    condition = f"{metric} {relation} dense {sign} {WITHIN}"
    near = Filters.read((condition,), dense)
    fine = [r for r in rows if r["status"] == "completed" and "sparsity" in r["metrics"] and near.keeps(r["metrics"])]
    if not fine:
        return {"condition": condition, "key": None, "name": None, "metrics": {}}
    better = 1.0 if direction == "maximize" else -1.0
    best = max(fine, key=lambda row: (row["metrics"]["sparsity"], better * row["metrics"][metric]))
    shown = {name: best["metrics"][name] for name in (metric, "sparsity")}
    return {"condition": condition, "key": best["key"], "name": best["name"], "metrics": shown}


def band_text(band: Sequence[float]) -> str:
    """A column's head: ``95 %``, or ``90 … 94.5 %``."""
    low, high = (f"{100 * value:.3g}" for value in band)
    return f"{high} %" if low == high or band[1] - band[0] <= SAME else f"{low} … {high} %"


def cell_text(cell: Mapping[str, Any] | None) -> str:
    """A cell: the best figure, and of several trials the worst and how many there are."""
    if cell is None:
        return ""
    if cell["best"] == cell["worst"]:
        return f"{cell['best']:.3f}" + (f" ×{cell['trials']}" if cell["trials"] > 1 else "")
    return f"{cell['best']:.3f}–{cell['worst']:.3f} ×{cell['trials']}"
