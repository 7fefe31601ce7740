"""The interactive part of the page: points to hover, zoom and click, filters, two trials side by side.

All of it lies in the page: the trials as data, and one script, which the page's policy names by its hash. A name or a
value that somebody wrote is only ever put into the page as text.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import json
from collections.abc import Mapping, Sequence
from html import escape
from importlib.resources import files
from typing import Any

from prune_search.ledger.records import SearchRecords, TrialRecords
from prune_search.recipe.metric_names import quality
from prune_search.recipe.search_block import parse_objective
from prune_search.report.figure_style import OTHERS, kinds, styles

STYLE = """\
#plot { width: 100%; max-width: 900px; border: 1px solid #ddd; touch-action: none; }
#plot text, svg.curve text { font-size: 11px; fill: #444; } #plot .axes line { stroke: #eee; }
#plot line.dense { stroke: #777; stroke-dasharray: 5 4; } .point { cursor: pointer; }
#explorer { position: relative; } #tip { position: absolute; background: #fff; border: 1px solid #999;
  padding: .3rem .5rem; font-size: .8rem; pointer-events: none; max-width: 240px; z-index: 1; }
svg.curve { width: 440px; max-width: 100%; } .filters label { margin-right: .8rem; white-space: nowrap; }
.filters input[type=number] { width: 4.5rem; } .swatch { font-weight: bold; }
table.sortable th { cursor: pointer; } tr[data-i] { cursor: pointer; }
th[aria-sort=ascending]::after { content: " ▲"; } th[aria-sort=descending]::after { content: " ▼"; }
"""
# Curves with more points are thinned out: a page of a thousand trials stays small.
MAX_POINTS = 60


@functools.cache
def script() -> str:
    """The script."""
    return files("prune_search.report").joinpath("explorer.js").read_text(encoding="utf-8")


@functools.cache
def script_hash() -> str:
    """What a content security policy allows it by."""
    digest = hashlib.sha256(script().encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode('ascii')}'"


def details_of(
    searches: Sequence[SearchRecords], rows: Sequence[Mapping[str, Any]], metric: str
) -> list[dict[str, Any]]:
    """What is shown of a row when it is clicked: its recipe, flat, and the course of a metric over its steps.

    Args:
        searches: that are compared.
        rows: of the comparison.
        metric: of the curve.

    Returns:
        For each row ``recipe`` and ``curve``, [steps, figure] in their order.
    """
    by_name = {search.name: search for search in searches}
    found = []
    for row in rows:
        search = by_name.get(row["search"])
        trial = None if search is None else search.trials.get(row["id"])
        recipe = {} if trial is None else flat(trial.recipe)
        found.append({"recipe": recipe, "curve": [] if trial is None else curve_of(trial, metric)})
    return found


def flat(node: Any, path: str = "") -> dict[str, Any]:
    """A recipe by dotted keys; lists as text."""
    if isinstance(node, Mapping) and node:
        parts = (flat(value, f"{path}.{key}" if path else str(key)) for key, value in node.items())
        return {key: value for part in parts for key, value in part.items()}
    return {path: node if isinstance(node, str | int | float | bool) or node is None else json.dumps(node)}


def curve_of(trial: TrialRecords, metric: str) -> list[list[float]]:
    """[steps trained, figure] after each round and at each measurement on the way."""
    rounds = [item["metrics"] for item in trial.result.get("rounds", [])]
    measured = [*rounds, *(record.figures for record in trial.measured)]
    points = {m["steps_trained"]: m[metric] for m in measured if _known(m, metric)}
    ordered = [[float(steps), round(float(points[steps]), 6)] for steps in sorted(points)]
    step = -(-len(ordered) // MAX_POINTS) or 1
    return [*ordered[:-1:step], *ordered[-1:]]


def _known(metrics: Mapping[str, Any], metric: str) -> bool:
    return metrics.get(metric) is not None and metrics.get("steps_trained") is not None


def explorer(data: Mapping[str, Any]) -> str:
    """The section of the page; empty where fewer than two rows have the figures that are drawn.

    Args:
        data: what ``compare --json`` prints, and with it ``details`` (see `details_of`).
    """
    metric = quality(parse_objective(written) for written in (data["sort"], *data["objectives"]))[1]
    rows = data["rows"]
    if sum({metric, "sparsity"} <= row["metrics"].keys() for row in rows) < 2:
        return ""
    names = [row["paradigm"] for row in rows]
    kind_of = dict(zip(names, kinds(names), strict=True))
    looks = styles(kind_of.values())
    drawn = {name: looks[kind] for name, kind in kind_of.items()}
    details = data.get("details") or [{"recipe": {}, "curve": []}] * len(rows)
    dense: Mapping[str, float] = next((c["metrics"] for c in data["controls"] if c["id"] == "control-dense"), {})
    content = {
        "x": "sparsity",
        "y": metric,
        "metrics": sorted({name for row in rows for name in row["metrics"]}),
        "dense": dense,
        "styles": {name: {"colour": style.colour, "marker": style.marker} for name, style in drawn.items()},
        "trials": [
            {
                "i": place,
                "name": row["name"],
                "paradigm": row["paradigm"],
                "pareto": row["pareto"],
                "metrics": row["metrics"],
                "params": {path: _short(value) for path, value in row["params"].items()},
                **detail,
            }
            for place, (row, detail) in enumerate(zip(rows, details, strict=True))
        ],
    }
    boxes = "".join(
        f'<label><input type="checkbox" checked data-paradigm="{escape(name)}"> '
        f'<span class="swatch" style="color:{drawn[name].colour}">●</span> {escape(name or OTHERS)}</label>'
        for name in sorted(set(names))
    )
    # Nothing in it can end the element: every < is written by its number.
    written = json.dumps(content, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")
    return f"""<section id="explorer">
<h2>Every recipe</h2>
<p>Point at one for its figures, click it for its recipe and curve, Shift-click another to compare the two. The wheel
zooms, dragging moves, a double click shows all. Filled: on the Pareto front.</p>
<p class="filters">{boxes}</p>
<p class="filters"><label>sparsity from <input id="low" type="number" value="0" min="0" max="100" step="any"> %</label>
<label>to <input id="high" type="number" value="100" min="0" max="100" step="any"> %</label>
<label>across <select id="axis-x"></select></label> <label>up <select id="axis-y"></select></label>
<button id="whole" type="button">show all</button> <span id="count"></span></p>
<svg id="plot" viewBox="0 0 900 420" role="img" aria-label="{escape(metric)} over sparsity"></svg>
<div id="tip" hidden></div>
<div id="panel"></div>
<script type="application/json" id="trials">{written}</script>
</section>"""


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
