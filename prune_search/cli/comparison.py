"""Prints the results of ``compare``: leaderboard, groups, Pareto front, controls; and two recipes side by side."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

MAX_ROWS = 40
MAX_PARAMS = 6
MAX_KNOBS = 5
WIDE = 110
# Columns that text may be folded into are at least so wide.
FOLDED = 24
UNLIMITED = 10_000
# From here on a figure is a count.
LARGE = 100


def show_comparison(data: dict[str, Any], storage: str | None, wide: bool = False) -> None:
    """Print the leaderboard, the Pareto front, what mattered and the controls.

    Args:
        data: from `api.compare.comparison` or `report.compare.compare_data`.
        storage: as the user typed it, for the suggested next command.
        wide: print every column and row, however wide the terminal is.
    """
    from rich.console import Console
    from rich.markup import escape

    from prune_search.api.where import storage_option
    from prune_search.cli.exits import as_called
    from prune_search.cli.status import steps_line
    from prune_search.report.labels import exported, fidelity_text, trusted_text

    console = Console(highlight=False, width=UNLIMITED if wide else None)
    rows, shown = data["rows"], data["rows"] if wide else data["rows"][:MAX_ROWS]
    if len(data["matrix"]["paradigms"]) > 1:
        _print_fitted(console, _matrix(data["matrix"]))
    if rows:
        _print_fitted(console, _leaderboard(data, shown, console.width >= WIDE))
    if len(rows) > len(shown):
        console.print(f"… {len(rows) - len(shown)} more: --wide")
    if data["left_out"]:
        console.print(f"{data['left_out']} rows hidden by --where {escape(' and '.join(data['where']))}")
    if data["groups"]:
        console.print(_groups(data))
    if data["pareto"]:
        _print_fitted(console, _front(data))
    if any(entry["knobs"] for entry in data.get("importance", ())):
        console.print(_importance(data["importance"]))
    for name, finalists in data["finalists"].items():
        _print_fitted(console, _finalists(name, finalists, data))
    if data["controls"]:
        from prune_search.recipe.metric_names import quality
        from prune_search.recipe.search_block import parse_objective

        written = (data["sort"], *data["objectives"])
        console.print(_controls(data["controls"], quality(map(parse_objective, written))[1]))
    for name, forms in data.get("fidelities", {}).items():
        of = f" of {escape(name)}" if len(data["searches"]) > 1 else ""
        for told in forms:
            console.print(f"fidelity{of}  {escape(fidelity_text(told))}", soft_wrap=True)
    for name, counts in data["steps"].items():
        console.print(f"steps of {escape(name)}  {steps_line(counts)}", soft_wrap=True)
    best = next((row for row in rows if row["key"] is not None and row["key"] == data["best"]), None)
    if best is None:
        console.print("no trial has completed")
        return
    met = (
        ""
        if data["constraints_met"]
        else f"; no trial meets {' and '.join(data['constraints'])}: this one comes closest"
    )
    console.print(f"best  [bold]{escape(best['name'])}[/bold]  key {best['key'][:16]}{escape(met)}", soft_wrap=True)
    if (sparsest := data["sparsest"]) is not None:
        console.print(_sparsest(sparsest), soft_wrap=True)
    for entry in data.get("recommended", ()):
        console.print(_recommended(entry, len(data["searches"]) > 1), soft_wrap=True)
        if entry.get("followed") and (trusted := trusted_text(entry)):
            of = f" by {escape(entry['search'])}" if len(data["searches"]) > 1 else ""
            console.print(f"trusted{of}  {escape(trusted)}", soft_wrap=True)
    if data["simulated"]:
        console.print("simulated: nothing was trained, so there is nothing to export")
        return
    option = storage_option(storage)
    hint = as_called(f"next  prune-search export {exported(data, best)} --to DIR{option}")
    console.print(escape(hint), soft_wrap=True)


def _sparsest(found: dict[str, Any]) -> str:
    """What can go while the network stays within one percent of the dense one."""
    from rich.markup import escape

    if found["name"] is None:
        return f"sparsest within 1 % of dense: none has {escape(found['condition'])}"
    figures = "  ".join(f"{name} {value:.4f}" for name, value in found["metrics"].items())
    return f"sparsest within 1 % of dense  [bold]{escape(found['name'])}[/bold]  {figures}"


def _matrix(found: dict[str, Any]) -> _Wide:
    """The best figure of each paradigm at each sparsity; the best of a column is marked."""
    from rich.markup import escape

    from prune_search.report.matrix import band_text, cell_text

    bands = [band_text(band) for band in found["bands"]]
    rows: list[tuple[list[str], str | None]] = []
    for line in found["paradigms"]:
        cells = [f"[bold]{cell_text(c)}[/bold]" if c and c["first"] else cell_text(c) for c in line["cells"]]
        rows.append(([escape(line["paradigm"]), *cells], None))
    title = f"{found['metric']} of each paradigm, by sparsity reached"
    caption = "bold: the best at that sparsity; best–worst ×trials"
    return _Wide(title, ["paradigm", *bands], rows, bands, caption)


def _recommended(entry: dict[str, Any], several: bool) -> str:
    """The recipe of the best expected figures: the best measured one may have been lucky."""
    from rich.markup import escape

    from prune_search.report.labels import recommended_text

    of = f" of {escape(entry['search'])}" if several else ""
    missed = "" if entry["constraints_met"] else "; it is not expected to meet the constraints"
    text = escape(recommended_text(entry))
    return f"expected best{of}  [bold]{escape(entry['name'])}[/bold]  {text}{missed}"


@dataclass(frozen=True)
class _Wide:
    """A table that may be wider than the terminal.

    Attributes:
        title: above it.
        heads: of the columns.
        rows: the cells of each line, and its style.
        last: the columns that can be left out, the least needed first.
        caption: below it.
        folds: the columns whose text may go on in another line.
        absent: columns that only a wider terminal gets.
    """

    title: str
    heads: list[str]
    rows: list[tuple[list[str], str | None]]
    last: list[str]
    caption: str = ""
    folds: tuple[str, ...] = ()
    absent: tuple[str, ...] = ()

    def without(self, heads: Collection[str], folds: Collection[str] = ()) -> Table:
        """The table without some columns, which the caption names; more columns may fold their text."""
        from rich.box import SIMPLE_HEAD
        from rich.table import Table

        kept = [place for place, head in enumerate(self.heads) if head not in heads]
        left_out = ", ".join(f"“{head}”" for head in (*(one for one in self.heads if one in heads), *self.absent))
        missing = f"no room for {left_out}: compare --wide shows all" if left_out else ""
        caption = "; ".join(filter(None, (self.caption, missing)))
        table = Table(title=self.title, caption=caption or None, box=SIMPLE_HEAD, pad_edge=False)
        for place in kept:
            table.add_column(self.heads[place], no_wrap=self.heads[place] not in (*self.folds, *folds), overflow="fold")
        for cells, style in self.rows:
            table.add_row(*(cells[place] for place in kept), style=style)
        return table


def _print_fitted(console: Console, wide: _Wide) -> None:
    """Print a table with as many columns as the terminal shows without splitting a name."""
    from rich.measure import Measurement

    unlimited = console.options.update(width=UNLIMITED)
    left: list[str] = []
    for head in (*wide.last, ""):
        needed = Measurement.get(console, unlimited, wide.without([*left, *wide.folds])).maximum
        fits = needed + FOLDED * len(wide.folds) <= console.width
        if fits or not head:
            break
        left.append(head)
    console.print(wide.without(left, () if fits else ("trial",)))


def _leaderboard(data: dict[str, Any], shown: Sequence[dict[str, Any]], wide: bool) -> _Wide:
    from rich.markup import escape

    from prune_search.report.labels import SPARSITIES, head_of, shown_metrics

    several = len(data["searches"]) > 1
    simulated = f"  (simulated: {data['simulated']})" if data["simulated"] else ""
    first, *others = shown_metrics(data)
    heads = ["rank", *(["search"] if several else []), "trial", head_of(first), "− dense", *map(head_of, others)]
    with_steps = wide and "steps_trained" not in others
    heads += (["steps"] if with_steps else []) + (["params"] if wide else [])
    rows: list[tuple[list[str], str | None]] = []
    for row in shown:
        name = escape(row["name"]) + ("" if row["seeds"] == 1 else f" × {row['seeds']} seeds")
        name += f" (paused {row['paused']})" if row.get("paused") else ""
        cells = ["–" if row["rank"] is None else str(row["rank"]), *([escape(row["search"])] if several else [])]
        cells += [f"{name} *" if row["pareto"] else name, _figure(row, first), _delta(row["delta_dense"])]
        cells += [_figure(row, metric) for metric in others]
        cells += [f"{row['metrics'].get('steps_trained', 0):,.0f}"] if with_steps else []
        cells += [escape(_params(row["params"]))] if wide else []
        rows.append((cells, None if row["status"] == "completed" else "dim"))
    beside = [head_of(name) for name in SPARSITIES[1:] if head_of(name) in heads]
    last = [*(["steps"] if with_steps else []), *beside, "− dense", *reversed([head_of(name) for name in others])]
    return _Wide(
        data["sort"] + simulated,
        heads,
        rows,
        list(dict.fromkeys(last)),
        "* on the Pareto front" + _ties(data["rows"]),
        ("params",) if wide else (),
        () if wide else (*(["steps"] if "steps_trained" not in others else []), "params"),
    )


def _ties(rows: list[dict[str, Any]]) -> str:
    """What rows of one rank mean, where there are any."""
    ranks = [row["rank"] for row in rows if row["rank"] is not None]
    tied = ranks.count(1)
    if tied < 2:
        return ""
    return f"; the {tied} of rank 1 do not differ by more than chance: search.finalists can decide"


def _figure(row: dict[str, Any], metric: str) -> str:
    value, deviation = row["metrics"].get(metric), row["deviation"].get(metric)
    if value is None:
        return str(row["status"])
    if abs(value) >= LARGE:
        return f"{value:,.0f}" + (f" ± {deviation:,.0f}" if deviation else "")
    return f"{value:.4f}" + (f" ± {deviation:.4f}" if deviation else "")


def _delta(delta: float | None) -> str:
    if delta is None:
        return ""
    return f"{delta:+.4f}" if abs(delta) < LARGE else f"{delta:+,.0f}"


def _params(params: dict[str, Any]) -> str:
    """The sampled values, each under the last two parts of its path; ``any`` is left out, as the name shows it."""
    drawn = {path: value for path, value in params.items() if path != "any"}
    last = [".".join(path.split(".")[-2:]) for path in drawn]
    names = [short if last.count(short) == 1 else path for path, short in zip(drawn, last, strict=True)]
    texts = [f"{value:.4g}" if isinstance(value, float) else str(value) for value in drawn.values()]
    parts = [f"{name}={text}" for name, text in zip(names, texts, strict=True)]
    return "  ".join(parts[:MAX_PARAMS]) + ("  …" if len(parts) > MAX_PARAMS else "")


def _front(data: dict[str, Any]) -> _Wide:
    """The Pareto front of the trials, with those of their intermediate rounds that lie on it too."""
    from rich.markup import escape

    from prune_search.report.labels import SPARSITIES, head_of, known_sparsities

    objectives = [written.split()[1] for written in data["objectives"]]
    known = known_sparsities(line["metrics"] for line in (*data["rows"], *data["points"]))
    metrics = list(dict.fromkeys((*known, *objectives)))
    lines: list[tuple[dict[str, Any], str, str, str | None]] = [
        (row, _delta(row["delta_dense"]), row["name"], None) for row in data["rows"] if row["pareto"]
    ]
    for point in data["points"]:
        if point["pareto"]:
            place = f"{point['name']}, round {point['round']}/{point['rounds']}"
            lines.append(({**point, "deviation": {}, "status": ""}, "", place, "dim"))
    rows: list[tuple[list[str], str | None]] = []
    for line, delta, name, style in sorted(lines, key=lambda item: (item[0]["metrics"].get("sparsity", 0.0), item[2])):
        rows.append(([*(_figure(line, metric) for metric in metrics), delta, escape(name)], style))
    heads = [*map(head_of, metrics), "− dense", "trial"]
    beside = [head_of(name) for name in known if name in SPARSITIES[1:]]
    return _Wide("Pareto front", heads, rows, [*beside, "− dense"])


def _finalists(search: str, finalists: list[dict[str, Any]], data: dict[str, Any]) -> _Wide:
    """The best recipes on new seeds, and whether seeds explain which of them is the first."""
    from rich.markup import escape

    from prune_search.report.labels import head_of

    first, *others = finalists[0]["metrics"]
    heads = ["trial", f"{head_of(first)}, new seeds", "as a trial", *map(head_of, others), "seeds"]
    rows: list[tuple[list[str], str | None]] = []
    for one in finalists:
        cells = [escape(one["name"]) + (" =" if one["like_best"] and one is not finalists[0] else "")]
        cells += [
            _told(one, first),
            _figure({"metrics": {first: one["metrics"][first]["measured"]}, "deviation": {}}, first),
        ]
        cells += [_told(one, metric) for metric in others]
        cells.append(f"{one['seeds']}" + (f", {one['failed']} failed" if one["failed"] else ""))
        rows.append((cells, None))
    several = f" of {escape(search)}" if len(data["searches"]) > 1 else ""
    told = "as a trial: the figure that made it a finalist, partly by luck"
    equal = "; =: the seeds do not tell it from the first" if any(o["like_best"] for o in finalists[1:]) else ""
    return _Wide(f"finalists{several}", heads, rows, [*reversed([head_of(name) for name in others])], told + equal)


def _told(finalist: dict[str, Any], metric: str) -> str:
    figures = finalist["metrics"][metric]
    row = {"metrics": {metric: figures["mean"]}, "deviation": {metric: figures["deviation"]}, "status": "failed"}
    return _figure(row, metric)


def _controls(controls: list[dict[str, Any]], metric: str) -> Table:
    from rich.box import SIMPLE_HEAD
    from rich.markup import escape
    from rich.table import Table

    table = Table("control", "search", metric, "− dense", "steps", title="controls", box=SIMPLE_HEAD)
    for control in controls:
        figure = _figure({**control, "deviation": {}}, metric)
        steps = f"{control['metrics'].get('steps_trained', 0):,.0f}"
        table.add_row(escape(control["name"]), escape(control["search"]), figure, _delta(control["delta_dense"]), steps)
    return table


def _groups(data: dict[str, Any]) -> Table:
    """One line per group: how many rows, and the best, mean and worst of the metric that they are ranked by."""
    from rich.box import SIMPLE_HEAD
    from rich.markup import escape
    from rich.table import Table

    direction, metric = data["sort"].split()
    worst = "least" if direction == "maximize" else "most"
    table = Table(title=f"{escape(metric)} by {escape(data['by'])}", box=SIMPLE_HEAD)
    for head in (data["by"], "rows", "front", "best", "mean", "worst"):
        table.add_column(escape(head), no_wrap=True)
    table.add_column("its best")
    for group in data["groups"]:
        mean, least = ("" if group[key] is None else f"{group[key]:.4f}" for key in ("mean", worst))
        best = _figure({**group, "status": ""}, metric)
        front = str(group["pareto"] or "")
        table.add_row(escape(group["value"]), str(group["rows"]), front, best, mean, least, escape(group["name"]))
    return table


def _importance(entries: list[dict[str, Any]]) -> Table:
    """Which parameters mattered: over all trials, per sparsity band and per option."""
    from rich.box import SIMPLE_HEAD
    from rich.markup import escape
    from rich.table import Table

    from prune_search.report.labels import group_label, hole_shares

    several = len({tuple(entry["searches"]) for entry in entries}) > 1
    table = Table("trials", "share of the variance", title=f"what mattered for {entries[0]['metric']}", box=SIMPLE_HEAD)
    for entry in entries:
        knobs = hole_shares(entry["knobs"])[:MAX_KNOBS]
        text = "  ".join(knobs) or f"no estimate: {entry['why']}"
        table.add_row(escape(group_label(entry, several)), escape(text), style=None if knobs else "dim")
    return table


def show_difference(data: dict[str, Any], wide: bool = False) -> None:
    """Print two recipes side by side: the keys in which they differ, and their figures.

    Args:
        data: from `report.differences.difference`.
        wide: print each value in one line, however wide the terminal is.
    """
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    console = Console(highlight=False, width=UNLIMITED if wide else None)
    names = [
        escape(f"{side['search']}/{side['name']}" if side["search"] else side["name"])
        for side in (data["a"], data["b"])
    ]
    if data["recipe"]:
        table = Table("recipe", *names, box=SIMPLE_HEAD)
        for line in data["recipe"]:
            table.add_row(
                escape(line["key"]), *("–" if line[key] is None else escape(str(line[key])) for key in ("a", "b"))
            )
        console.print(table)
    else:
        console.print(f"{names[0]} and {names[1]} are the same recipe")
    if data["metrics"]:
        table = Table("metric", *names, "difference", box=SIMPLE_HEAD)
        for line in data["metrics"]:
            cells = [_mean(line[key], line[f"deviation_{key}"]) for key in ("a", "b")]
            change = "" if line["difference"] is None else f"{line['difference']:+,.4g}"
            table.add_row(escape(line["metric"]), *cells, change)
        console.print(table)


def _mean(value: float | None, deviation: float | None) -> str:
    if value is None:
        return "–"
    return f"{value:,.6g}" + (f" ± {deviation:.4f}" if deviation else "")
