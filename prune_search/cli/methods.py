"""``prune-search methods``: list everything a recipe can name, with its source."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer

from prune_search.cli.arguments import Json, examples
from prune_search.cli.verbs import VERBS, Verb

EPILOG = examples(
    "prune-search methods",
    "prune-search methods criterion",
    "prune-search methods dynamics rigl",
    "prune-search methods --json",
)


@VERBS.register("methods", facts=Verb(epilog=EPILOG))
def methods(
    axis: Annotated[str | None, typer.Argument(help="Show only this axis, e.g. criterion.")] = None,
    name: Annotated[
        str | None, typer.Argument(help="Show only this value of the axis, and explain its options, e.g. snip.")
    ] = None,
    as_json: Json = False,
    as_markdown: Annotated[
        bool, typer.Option("--markdown", help="Print the pruning axes as the Markdown table of the guide.")
    ] = False,
) -> None:
    """List the values of every recipe axis: what each one does, its options and its source."""
    from prune_search.recipe.methods import markdown, table
    from prune_search.recipe.problems import Problem, UserError, not_one_of

    if as_markdown:
        typer.echo(markdown())
        return
    rows = table()
    if axis is not None:
        names = {row["axis"] for row in rows}
        if axis not in names:
            raise UserError([Problem("methods", not_one_of(axis, names))])
        rows = [row for row in rows if row["axis"] == axis]
    if name is not None:
        names = {row["name"] for row in rows}
        if name not in names:
            raise UserError([Problem(f"methods {axis}", not_one_of(name, names))])
        rows = [row for row in rows if row["name"] == name]
    if as_json:
        typer.echo(json.dumps({"methods": rows}))
    elif name is not None:
        _explain(rows[0])
    else:
        _show(rows)


def _explain(row: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    console = Console(highlight=False)
    console.print(f"[bold]{escape(row['name'])}[/bold]  ({escape(row['key'])})  {escape(row['summary'])}")
    if row["source"]:
        console.print(f"source  {escape(row['source'])}")
    if not row["options"]:
        console.print("It has no options.")
        return
    grid = Table("option", "default", "values", "what it is")
    for option in row["options"]:
        cells = (option["name"], option["default"], option["values"], option["doc"])
        grid.add_row(*(escape(str(cell)) for cell in cells))
    console.print(grid)


def _show(rows: list[dict[str, Any]]) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False)
    for name in dict.fromkeys(row["axis"] for row in rows):
        mine = [row for row in rows if row["axis"] == name]
        grid = Table(
            "name", "what it is", "options", "source", title=f"{name}  ({mine[0]['key']})", title_justify="left"
        )
        for row in mine:
            options = ", ".join(f"{option['name']}={option['default']}" for option in row["options"])
            grid.add_row(row["name"], row["summary"], options, row["source"])
        console.print(grid)
