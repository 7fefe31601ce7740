"""Writes a comparison as one HTML page in one file: the answer first, figures to work with, the long table last."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

from prune_search.recipe.axes import PICTURES
from prune_search.recipe.search_block import parse_objective
from prune_search.report import explorer
from prune_search.report.labels import (
    exported,
    fidelity_text,
    group_label,
    head_of,
    hole_shares,
    recommended_text,
    shown_metrics,
    trusted_text,
)
from prune_search.report.matrix import band_text, cell_text
from prune_search.version import __version__

MAX_ROWS = 1000
UNFOLDED = 40
# Nothing is fetched and no script runs but our own, whatever somebody wrote into a name.
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src {script}"
STYLE = """\
body { font: 15px/1.5 system-ui, sans-serif; max-width: 72rem; margin: 2rem auto; padding: 0 1rem; color: #111; }
h1 { font-size: 1.5rem; } summary h2 { display: inline; } h2 { font-size: 1.15rem; margin-top: 2.2rem; }
table { border-collapse: collapse; font-size: .85rem; font-variant-numeric: tabular-nums; }
th, td { text-align: left; padding: .2rem .7rem .2rem 0; border-bottom: 1px solid #ddd; vertical-align: top; }
th { border-bottom: 2px solid #111; } .wide { overflow-x: auto; }
th, td:nth-child(-n+2) { white-space: nowrap; }
tr.pareto td:first-child { font-weight: bold; } tr.quiet { color: #777; }
figure { margin: 1.2rem 0; } figure img { max-width: 100%; height: auto; }
figcaption { color: #555; font-size: .85rem; }
code { background: #f2f2f2; padding: .1rem .3rem; }
"""

Row = Mapping[str, Any]


def page(data: Mapping[str, Any], pictures: Mapping[str, bytes]) -> str:
    """The page.

    Args:
        data: what ``compare --json`` prints.
        pictures: SVG files by name, shown in their order, the first one before the leaderboard.
    """
    title = f"{' + '.join(data['searches'])}: pruning recipes compared"
    shown = [_picture(name, content) for name, content in pictures.items()]
    parts = [
        _summary(data),
        _matrix(data["matrix"]),
        explorer.explorer(data),
        *shown,
        *(_finalists(name, finalists) for name, finalists in data["finalists"].items()),
        _groups(data),
        _importance(data["importance"]),
        _difference(data.get("difference")),
        _controls(data["controls"]),
        _fidelities(data.get("fidelities", {})),
        _steps(data["steps"]),
        _leaderboard(data),
    ]
    works = 'id="explorer"' in parts[2]
    body = "\n".join(part for part in parts if part)
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{POLICY.format(script=explorer.script_hash())}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(title)}</title>
<style>
{STYLE}{explorer.STYLE}</style>
</head>
<body>
<h1>{escape(title)}</h1>
{body}
<p><small>prune_search {escape(__version__)}</small></p>
{f"<script>{explorer.script()}</script>" if works else ""}
</body>
</html>
"""


def _summary(data: Mapping[str, Any]) -> str:
    goals = ", ".join([*data["objectives"], *data["constraints"]])
    lines = [f"Looked for: {escape(goals)}."]
    if data["simulated"]:
        lines.append(f"Simulated ({escape(str(data['simulated']))}): nothing was trained.")
    if data["where"]:
        lines.append(f"Shown: {escape(' and '.join(data['where']))}. {data['left_out']} other rows are hidden.")
    best = next((row for row in data["rows"] if row["key"] is not None and row["key"] == data["best"]), None)
    if best is None:
        lines.append("No trial has completed.")
    else:
        figures = ", ".join(f"{name} {_figure(best, name)}" for _, name in map(parse_objective, data["objectives"]))
        missed = "" if data["constraints_met"] else " (no trial meets the constraints; this one comes closest)"
        lines.append(f"Best: <strong>{escape(best['name'])}</strong>, {escape(figures)}{missed}.")
        if (sparsest := data["sparsest"]) is not None and sparsest["name"] is not None:
            told = ", ".join(f"{name} {_short(value)}" for name, value in sparsest["metrics"].items())
            name = escape(sparsest["name"])
            lines.append(f"Sparsest within 1 % of the dense network: <strong>{name}</strong>, {escape(told)}.")
        for entry in data.get("recommended", ()):
            of = f" of {escape(entry['search'])}" if len(data["searches"]) > 1 else ""
            text = escape(recommended_text(entry))
            lines.append(f"Expected best{of}: <strong>{escape(entry['name'])}</strong>, {text}.")
            if entry.get("followed") and (trusted := trusted_text(entry)):
                lines.append(f"Earlier knowledge{of} and the weight that it still has: {escape(trusted)}.")
        if not data["simulated"]:
            lines.append(f"Export it: <code>prune-search export {escape(exported(data, best))} --to DIR</code>")
    return "\n".join(f"<p>{line}</p>" for line in lines)


def _matrix(found: Mapping[str, Any]) -> str:
    """The best figure of each paradigm at each sparsity."""
    if len(found["paradigms"]) < 2:
        return ""
    heads = ["paradigm", *map(band_text, found["bands"])]
    lines = []
    for line in found["paradigms"]:
        cells = [f"★ {cell_text(cell)}" if cell and cell["first"] else cell_text(cell) for cell in line["cells"]]
        lines.append(("", [line["paradigm"], *cells]))
    told = f"<p>{escape(found['metric'])}; ★ the best at that sparsity; best–worst ×trials.</p>"
    return f"<h2>Which paradigm wins at which sparsity</h2>{told}{_table(heads, lines)}"


def _picture(name: str, content: bytes) -> str:
    summary = PICTURES[name].summary
    source = f"data:image/svg+xml;base64,{base64.b64encode(content).decode('ascii')}"
    return f'<figure><img alt="{escape(summary)}" src="{source}"><figcaption>{escape(summary)}</figcaption></figure>'


def _leaderboard(data: Mapping[str, Any]) -> str:
    if not data["rows"]:
        return ""
    rows = data["rows"][:MAX_ROWS]
    shown = shown_metrics(data)
    others = sorted({name for row in rows for name in row["metrics"]} - set(shown))
    # What nobody asked for comes last: the knobs are what the figures at the left are read with.
    heads = [
        "rank",
        "trial",
        *(["search"] if len(data["searches"]) > 1 else []),
        "seeds",
        *map(head_of, shown),
        "− dense",
        "params",
        *others,
    ]
    lines = []
    for row in rows:
        params = ", ".join(f"{path}={_short(value)}" for path, value in row["params"].items())
        cells = ["–" if row["rank"] is None else str(row["rank"]) + (" ★" if row["pareto"] else "")]
        cells += [row["name"] + (f" (paused {row['paused']})" if row.get("paused") else "")]
        cells += [row["search"]] if len(data["searches"]) > 1 else []
        cells += [str(row["seeds"]), *(_figure(row, name) for name in shown)]
        cells += ["" if row["delta_dense"] is None else f"{row['delta_dense']:+.4f}", params]
        cells += [_figure(row, name) for name in others]
        look = "pareto" if row["pareto"] else "" if row["status"] == "completed" else "quiet"
        lines.append((look, cells))
    more = f"<p>{len(data['rows']) - MAX_ROWS} more rows.</p>" if len(data["rows"]) > MAX_ROWS else ""
    ties = "Rows of one rank do not differ by more than seeds and the size of the validation set explain."
    told = f"Ranked by {escape(data['sort'])}; ★ on the Pareto front; ± one standard deviation over the seeds. {ties}"
    legend = f"<p>{told}</p>"
    table = _table(heads, lines, sortable=True)
    # The page shows the figures first: the long table is unfolded by whoever needs it.
    fold = "" if len(rows) > UNFOLDED else " open"
    return f"<details{fold}><summary><h2>Leaderboard</h2></summary>{legend}{table}{more}</details>"


def _groups(data: Mapping[str, Any]) -> str:
    if not data["groups"]:
        return ""
    metric = data["sort"].split()[1]
    heads = [data["by"], "rows", "completed", "on the front", f"best {metric}", "mean", "least", "most", "best trial"]
    lines = [
        ("", [g["value"], str(g["rows"]), str(g["completed"]), str(g["pareto"]), _figure(g, metric),
              *("" if g[key] is None else _short(g[key]) for key in ("mean", "least", "most")), g["name"]])
        for g in data["groups"]
    ]  # fmt: skip
    return f"<h2>By {escape(data['by'])}</h2>{_table(heads, lines)}"


def _importance(entries: Sequence[Row]) -> str:
    said = [entry for entry in entries if entry["knobs"]]
    if not said:
        return ""
    several = len({tuple(entry["searches"]) for entry in said}) > 1
    lines = [("", [group_label(entry, several), ", ".join(hole_shares(entry["knobs"]))]) for entry in said]
    text = f"<p>Share of the variance of {escape(said[0]['metric'])} explained by each parameter (fANOVA).</p>"
    return f"<h2>Which parameters mattered</h2>{text}{_table(['trials', 'parameters'], lines)}"


def _difference(data: Mapping[str, Any] | None) -> str:
    if data is None:
        return ""
    names = [f"{side['search']}/{side['name']}" if side["search"] else side["name"] for side in (data["a"], data["b"])]
    keys = [("", [e["key"], *("–" if e[key] is None else str(e[key]) for key in ("a", "b"))]) for e in data["recipe"]]
    figures = [
        ("", [e["metric"], *("" if e[key] is None else _short(e[key]) for key in ("a", "b", "difference"))])
        for e in data["metrics"]
    ]
    tables = _table(["recipe", *names], keys) + _table(["metric", *names, "difference"], figures)
    return f"<h2>{escape(names[0])} and {escape(names[1])}</h2>{tables}"


def _finalists(search: str, finalists: Sequence[Row]) -> str:
    metrics = list(finalists[0]["metrics"])
    lines = []
    for one in finalists:
        shown = [
            _figure({"metrics": {m: told["mean"]}, "deviation": {m: told["deviation"]}, "status": "failed"}, m)
            for m, told in one["metrics"].items()
        ]
        first = one["metrics"][metrics[0]]["measured"]
        alike = "" if one is finalists[0] else "not told apart by these seeds" if one["like_best"] else "worse"
        lines.append(("", [one["name"], *shown, _short(first), str(one["seeds"]), alike]))
    heads = [
        "trial",
        *(f"{metric}, new seeds" for metric in metrics),
        f"{metrics[0]}, as a trial",
        "seeds",
        "beside the first",
    ]
    return f"<h2>Finalists of {escape(search)}, repeated on new seeds</h2>{_table(heads, lines)}"


def _controls(controls: Sequence[Row]) -> str:
    if not controls:
        return ""
    names = list(dict.fromkeys(name for control in controls for name in control["metrics"]))
    lines = [("", [c["name"], c["search"], *(_figure(c, name) for name in names)]) for c in controls]
    return f"<h2>Controls</h2>{_table(['control', 'search', *names], lines)}"


def _fidelities(fidelities: Mapping[str, Sequence[Row]]) -> str:
    """What cheaper forms told of the full recipes; their trials are in no table and no figure."""
    lines = [
        f"<li>{escape(name)}, {escape(fidelity_text(one))}</li>" for name, told in fidelities.items() for one in told
    ]
    return f"<h2>Low fidelities</h2><ul>{''.join(lines)}</ul>" if lines else ""


def _steps(steps: Mapping[str, Row]) -> str:
    names = list(dict.fromkeys(name for counts in steps.values() for name in counts))
    lines = [("", [search, *(f"{counts.get(name, 0):,}" for name in names)]) for search, counts in steps.items()]
    return f"<h2>Steps</h2>{_table(['search', *(name.replace('_', ' ') for name in names)], lines)}"


def _table(heads: Iterable[str], lines: Iterable[tuple[str, Sequence[str]]], sortable: bool = False) -> str:
    """A table; of a sortable one each row names the trial that it is of."""
    head = "".join(f"<th>{escape(text)}</th>" for text in heads)
    rows = "\n".join(
        f'<tr class="{look}"'
        + (f' data-i="{place}">' if sortable else ">")
        + "".join(f"<td>{escape(cell)}</td>" for cell in cells)
        + "</tr>"
        for place, (look, cells) in enumerate(lines)
    )
    kind = ' class="sortable"' if sortable else ""
    return f'<div class="wide"><table{kind}><thead><tr>{head}</tr></thead><tbody>\n{rows}\n</tbody></table></div>'


def _figure(row: Row, metric: str) -> str:
    value, deviation = row["metrics"].get(metric), row.get("deviation", {}).get(metric)
    if value is None:
        return ""
    return _short(value) + (f" ± {deviation:.4f}" if deviation else "")


def _short(value: Any) -> str:
    if not isinstance(value, float):
        return str(value)
    return f"{value:,.0f}" if value.is_integer() and 10 <= abs(value) < 1e7 else f"{value:.4g}"
