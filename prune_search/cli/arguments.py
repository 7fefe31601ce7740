"""Options shared by several commands, and helpers for the help texts."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from prune_search.recipe import strict_yaml
from prune_search.recipe.fields import Length
from prune_search.recipe.problems import Problem, UserError, shown
from prune_search.recipe.reading import Reading
from prune_search.recipe.step import Step

Sets = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Override a recipe key, e.g. mask.sparsity=0.95. Repeatable."),
]
DataRoot = Annotated[
    Path | None,
    typer.Option("--data-root", envvar="PRUNE_SEARCH_DATA", help="Folder with the data sets' original files."),
]
Storage = Annotated[
    str | None,
    typer.Option(
        "--storage",
        envvar="PRUNE_SEARCH_STORAGE",
        metavar="PLACE",
        help="Where training states and searches are stored: a folder or s3://BUCKET/PREFIX. Share it between runs. "
        "Default: ./prune-search-store",
    ),
]
StorageBudget = Annotated[
    str | None,
    typer.Option(
        "--storage-budget",
        metavar="SIZE",
        envvar="PRUNE_SEARCH_STORAGE_BUDGET",
        help="Maximum size of the stored states, e.g. 20GB. The states cheapest to retrain per byte are removed first. "
        "Default: no limit.",
    ),
]
Model = Annotated[str | None, typer.Option("--model", help="Registered model, or your own as package.module:factory.")]
Data = Annotated[str | None, typer.Option("--data", help="Registered data set, or your own as package.module:factory.")]
TaskName = Annotated[
    str | None,
    typer.Option(
        "--task",
        metavar="MODULE:FUNCTION",
        help="Your own function that returns a prune_search.Task: model, data, loss and metrics.",
    ),
]
Device = Annotated[str, typer.Option("--device", help="Device to train on: auto, cpu, cuda, cuda:1, …")]
Json = Annotated[bool, typer.Option("--json", help="Print a single JSON object to standard output.")]


def examples(*commands: str) -> str:
    """The end of a help page: example commands, one per line."""
    return "\n".join(["Examples:", *(f"  {command}" for command in commands)])


def reflowed(command: Callable[..., object] | None) -> str:
    """The docstring of a command, one line per paragraph, so that the terminal's width wraps it."""
    return "\n\n".join(" ".join(part.split()) for part in (inspect.getdoc(command) or "").split("\n\n"))


def read_length(text: str, option: str) -> Step:
    """Parse a length of training.

    Raises:
        UserError: it is none, or it is 0.
    """
    reading = Reading()
    written = Length(positive=True).read(text, option, reading)
    if reading.problems:
        raise UserError(reading.problems)
    return Step.parse(written)


def read_sets(sets: list[str] | None) -> dict[str, Any]:
    """Parse the ``--set`` options into keys and values.

    Raises:
        UserError: lists every option that is not KEY=VALUE or whose value is not valid YAML.
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
