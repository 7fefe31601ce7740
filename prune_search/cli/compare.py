"""``prune-search compare``: the leaderboard, the Pareto front and the controls of one or several searches."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from prune_search.cli.arguments import Json, Storage, examples
from prune_search.cli.searches import damaged, find_search, read
from prune_search.cli.verbs import VERBS, Verb
from prune_search.recipe.problems import UserError

if TYPE_CHECKING:
    from prune_search.ledger.records import SearchRecords

EPILOG = examples(
    "prune-search compare quickstart --where 'sparsity>=95%' --by paradigm",
    "prune-search compare monday tuesday --sort sparsity",
    "prune-search compare quickstart --diff 3 12",
    "prune-search compare quickstart --html report.html --pictures pictures",
)

Where = Annotated[
    list[str] | None,
    typer.Option(
        "--where",
        metavar="CONDITION",
        help="Show only trials that meet CONDITION, e.g. 'sparsity>=0.9' or 'val/accuracy >= dense - 1%'. Repeatable.",
    ),
]
By = Annotated[
    str | None,
    typer.Option(
        "--by", metavar="KEY", help="Group by paradigm, by search, or by a recipe key such as mask.criterion."
    ),
]
Diff = Annotated[
    tuple[str, str] | None,
    typer.Option(
        "--diff",
        metavar="A B",
        help="Show two recipes side by side: trials (name, number, key or SEARCH/TRIAL), searches, presets or files.",
    ),
]


@VERBS.register("compare", facts=Verb(epilog=EPILOG))
def compare(
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="NAME …", help="Searches to compare, all on the same data set.", show_default=False),
    ] = None,
    sort: Annotated[
        str | None, typer.Option("--sort", metavar="METRIC", help="Rank by METRIC instead of the first objective.")
    ] = None,
    where: Where = None,
    by: By = None,
    diff: Diff = None,
    html: Annotated[
        Path | None,
        typer.Option("--html", metavar="FILE", help="Write the whole report to one HTML page, figures included."),
    ] = None,
    pictures: Annotated[
        Path | None, typer.Option("--pictures", metavar="DIR", help="Write the figures to this folder, one file each.")
    ] = None,
    picture_format: Annotated[
        Literal["svg", "png"], typer.Option("--format", help="File format of the figures.")
    ] = "svg",
    wide: Annotated[
        bool, typer.Option("--wide", help="Show every column and row, even if the terminal is too narrow for them.")
    ] = False,
    storage: Storage = None,
    as_json: Json = False,
) -> None:
    """Rank the trials of one or more searches.

    Trials that differ only in their seed share a row. A row's rank is one more than the number of rows that are
    clearly better: by more than the seeds (mean ± standard deviation) and the size of the validation set explain. Test
    metrics are not shown: they are measured when a trial is exported.
    """
    from prune_search.api.compare import comparison, differing, write_page, write_pictures
    from prune_search.report.compare import Question

    if not names and (diff is None or any((sort, where, by, html, pictures))):
        raise UserError("name at least one search, or pass two recipes with --diff A B")
    folders = [find_search(storage, name) for name in names or ()]
    data: dict[str, Any] = {}
    searches: list[SearchRecords] = []
    if folders:
        with damaged(folders[0]):
            searches = [read(folder) for folder in folders]
            data = comparison(searches, Question(sort, tuple(where or ()), by))
    if diff is not None:
        data["difference"] = differing(searches, diff, storage)
    if html is not None:
        write_page(searches, data, html)
    files = [] if pictures is None else write_pictures(searches, data, pictures, picture_format)
    if as_json:
        typer.echo(json.dumps(data, allow_nan=False))
        return
    _show(data, storage, wide)
    for file in [*([] if html is None else [html]), *files]:
        typer.echo(f"wrote {file}")


def _show(data: dict[str, Any], storage: str | None, wide: bool) -> None:
    from prune_search.cli.comparison import show_comparison, show_difference

    if "difference" in data:
        show_difference(data["difference"], wide)
    else:
        show_comparison(data, storage, wide)
