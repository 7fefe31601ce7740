"""Arguments and options that several verbs share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from prune_search.recipe import strict_yaml
from prune_search.recipe.problems import Problem, UserError, shown

Sets = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="KEY=VALUE", help="Set a key of the recipe, e.g. mask.sparsity=0.95. Can be repeated."
    ),
]
DataRoot = Annotated[
    Path | None,
    typer.Option("--data-root", envvar="PRUNE_SEARCH_DATA", help="Folder of the data sets' official files."),
]
Storage = Annotated[
    str | None,
    typer.Option(
        "--storage",
        envvar="PRUNE_SEARCH_STORAGE",
        metavar="PLACE",
        help="Folder of stored training states, or s3://BUCKET/PREFIX, shared by all runs. "
        "Default: ./prune-search-store",
    ),
]
StorageBudget = Annotated[
    str | None,
    typer.Option(
        "--storage-budget",
        metavar="SIZE",
        envvar="PRUNE_SEARCH_STORAGE_BUDGET",
        help="What stored states may take, e.g. 20GB; what is cheapest to train again per byte goes first. "
        "Default: no limit.",
    ),
]
Model = Annotated[str | None, typer.Option("--model", help="A registered model, or your own: package.module:factory.")]
Data = Annotated[str | None, typer.Option("--data", help="A registered data set, or your own: package.module:factory.")]
Device = Annotated[str, typer.Option("--device", help="auto, cpu, cuda, cuda:1 …")]
Json = Annotated[bool, typer.Option("--json", help="Print exactly one JSON object on standard output.")]


def read_sets(sets: list[str] | None) -> dict[str, Any]:
    """``--set`` options as keys and values.

    Raises:
        UserError: every one that is not KEY=VALUE, or whose value is no YAML.
    """
    values: dict[str, Any] = {}
    problems: list[Problem] = []
    for text in sets or []:
        key, equals, value = text.partition("=")
        if not equals or not key:
            problems.append(Problem("--set", f"must be KEY=VALUE (got {shown(text)})"))
            continue
        try:
            values[key] = strict_yaml.scalar(value)
        except UserError as error:
            problems += [
                Problem("--set", f"{key}: {problem.message} (got {shown(value)})") for problem in error.problems
            ]
    if problems:
        raise UserError(problems)
    return values
