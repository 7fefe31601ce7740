"""``prune-search compare``: the leaderboard, the Pareto front and the controls of one or several searches."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

from prune_search.cli.arguments import Json, Storage
from prune_search.cli.searches import damaged, find_search, read

if TYPE_CHECKING:
    from rich.table import Table

EPILOG = (
    "Examples:  prune-search compare quickstart  ·  prune-search compare monday tuesday --sort sparsity  ·  "
    "prune-search compare quickstart --json"
)
MOST_ROWS = 40
MOST_PARAMS = 6
WIDE = 110


def add_to(app: typer.Typer) -> None:
    """Add the verb to the command line."""
    app.command("compare", epilog=EPILOG)(compare)


def compare(
    names: Annotated[list[str], typer.Argument(metavar="NAME …", help="Searches on the same data set.")],
    sort: Annotated[
        str | None, typer.Option("--sort", metavar="METRIC", help="Rank by this metric instead of the first objective.")
    ] = None,
    storage: Storage = None,
    as_json: Json = False,
) -> None:
    """Rank the trials of searches: those that differ only in the seed are one row.

    Rows whose intervals over seeds (mean ± deviation) overlap share a rank. Test metrics are not shown: they are
    measured when a trial is exported.
    """
    from prune_search.report.compare import compare_data

    folders = [find_search(storage, name) for name in names]
    with damaged(folders[0]):
        data = compare_data([read(folder) for folder in folders], sort)
    if as_json:
        typer.echo(json.dumps(data, allow_nan=False))
    else:
        show_comparison(data, storage)


def show_comparison(data: dict[str, Any], storage: str | None) -> None:
    """Print the leaderboard, the Pareto front and the controls that `report.compare.compare_data` gave.

    Args:
        data: of the searches.
        storage: as it was typed, for the command to type next.
    """
    from rich.console import Console
    from rich.markup import escape

    from prune_search.api import storage_option
    from prune_search.cli.status import steps_line

    console = Console(highlight=False)
    rows = data["rows"]
    if rows:
        console.print(_leaderboard(data, console.width >= WIDE))
    if len(rows) > MOST_ROWS:
        console.print(f"… {len(rows) - MOST_ROWS} more: --json")
    front = [row for row in rows if row["pareto"]]
    points = [point for point in data["points"] if point["pareto"]]
    if front:
        console.print(_front(front, points))
    if data["controls"]:
        console.print(_controls(data["controls"]))
    for name, counts in data["steps"].items():
        console.print(f"steps of {escape(name)}  {steps_line(counts)}", soft_wrap=True)
    best = next((row for row in rows if row["key"] is not None and row["key"] == data["best"]), None)
    if best is None:
        console.print("no trial has completed")
        return
    met = (
        ""
        if data["constraints_met"]
        else f"; no trial meets {' and '.join(data['constraints'])}: it violates them least"
    )
    console.print(f"best  [bold]{escape(best['name'])}[/bold]  key {best['key'][:16]}{escape(met)}", soft_wrap=True)
    if data["simulated"]:
        console.print("simulated: nothing was trained, and there is nothing to export")
        return
    option = storage_option(storage)
    console.print(f"next  prune-search export {escape(best['search'])} --to DIR{escape(option)}", soft_wrap=True)


def _leaderboard(data: dict[str, Any], wide: bool) -> Table:
    from rich.box import SIMPLE_HEAD
    from rich.markup import escape
    from rich.table import Table

    several = len(data["searches"]) > 1
    simulated = f"  (simulated: {data['simulated']})" if data["simulated"] else ""
    table = Table(title=data["sort"] + simulated, caption="* on the Pareto front", box=SIMPLE_HEAD, pad_edge=False)
    for head in ("rank", *(["search"] if several else []), "trial", "val/accuracy", "− dense", "sparsity"):
        table.add_column(head, no_wrap=head != "trial", overflow="fold")
    if wide:
        table.add_column("steps", no_wrap=True)
        table.add_column("params")
    for row in data["rows"][:MOST_ROWS]:
        name = escape(row["name"]) + ("" if row["seeds"] == 1 else f" × {row['seeds']} seeds")
        cells = ["–" if row["rank"] is None else str(row["rank"]), *([escape(row["search"])] if several else [])]
        cells += [f"{name} *" if row["pareto"] else name, _figure(row, "val/accuracy"), _delta(row["delta_dense"])]
        cells.append(_figure(row, "sparsity"))
        if wide:
            cells += [f"{row['metrics'].get('steps_trained', 0):,.0f}", escape(_params(row["params"]))]
        table.add_row(*cells, style=None if row["status"] == "completed" else "dim")
    return table


def _figure(row: dict[str, Any], metric: str) -> str:
    value, deviation = row["metrics"].get(metric), row["deviation"].get(metric)
    if value is None:
        return str(row["status"])
    return f"{value:.4f}" + (f" ± {deviation:.4f}" if deviation else "")


def _delta(delta: float | None) -> str:
    return "" if delta is None else f"{delta:+.4f}"


def _params(params: dict[str, Any]) -> str:
    """What was drawn, each under the last two parts of its path, without the option of ``any``, which the name says."""
    drawn = {path: value for path, value in params.items() if path != "any"}
    last = [".".join(path.split(".")[-2:]) for path in drawn]
    names = [short if last.count(short) == 1 else path for path, short in zip(drawn, last, strict=True)]
    texts = [f"{value:.4g}" if isinstance(value, float) else str(value) for value in drawn.values()]
    parts = [f"{name}={text}" for name, text in zip(names, texts, strict=True)]
    return "  ".join(parts[:MOST_PARAMS]) + ("  …" if len(parts) > MOST_PARAMS else "")


def _front(rows: list[dict[str, Any]], points: list[dict[str, Any]]) -> Table:
    """The Pareto front of the trials; the rounds on their way that lie on it too stand between them."""
    from rich.box import SIMPLE_HEAD
    from rich.markup import escape
    from rich.table import Table

    table = Table("sparsity", "val/accuracy", "− dense", "trial", title="Pareto front", box=SIMPLE_HEAD)
    lines: list[tuple[dict[str, Any], str, str, str | None]] = [
        (row, _delta(row["delta_dense"]), row["name"], None) for row in rows
    ]
    for point in points:
        place = f"{point['name']}, round {point['round']} of {point['rounds']}"
        lines.append(({**point, "deviation": {}, "status": ""}, "", place, "dim"))
    for line, delta, name, style in sorted(lines, key=lambda item: (item[0]["metrics"].get("sparsity", 0.0), item[2])):
        table.add_row(_figure(line, "sparsity"), _figure(line, "val/accuracy"), delta, escape(name), style=style)
    return table


def _controls(controls: list[dict[str, Any]]) -> Table:
    from rich.box import SIMPLE_HEAD
    from rich.markup import escape
    from rich.table import Table

    table = Table("control", "search", "val/accuracy", "− dense", "steps", title="controls", box=SIMPLE_HEAD)
    for control in controls:
        metrics = control["metrics"]
        accuracy = f"{metrics['val/accuracy']:.4f}" if "val/accuracy" in metrics else control["status"]
        steps = f"{metrics.get('steps_trained', 0):,.0f}"
        table.add_row(
            escape(control["name"]), escape(control["search"]), accuracy, _delta(control["delta_dense"]), steps
        )
    return table
