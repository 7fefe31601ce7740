"""``prune-search``: one file per verb. Nothing here imports torch, ray or mlflow before a verb needs it."""

from __future__ import annotations

import sys
from typing import Annotated, Any

import typer

from prune_search.cli.exits import FAILED, INTERRUPTED, USER, complain
from prune_search.cli.verbs import VERBS, command_of
from prune_search.recipe.problems import UserError
from prune_search.version import __version__

EPILOG = (
    "Examples:  prune-search run lottery-ticket  ·  prune-search run snip --set mask.sparsity=0.9  ·  "
    "prune-search methods  ·  prune-search validate my.yaml"
)

# What is wrong with the command line itself; typer exports its subclasses only.
UsageProblem: type[Exception] = next(kind for kind in typer.BadParameter.__mro__ if kind.__name__ == "ClickException")


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"prune-search {__version__}")
        raise typer.Exit


def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """The options that every verb shares."""


def command_line() -> Any:
    """All verbs as one command, as click runs it.

    Raises:
        UserError: a plug-in cannot be loaded, or its verb is no command line.
    """
    app = typer.Typer(
        name="prune-search",
        help="Search over pruning paradigms: a paper is a recipe, a recipe is data, and anyone can run it again.",
        epilog=EPILOG,
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        rich_markup_mode="rich",
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(_options)
    return command_of(app, VERBS.values())


def main() -> None:
    """Run the command line.

    Exit codes: 0; 1 where `doctor` finds what must be mended; 2 for what the user wrote; 3 for a trial that failed; 130
    for Ctrl-C.
    """
    sys.exit(_code())


def _code() -> int:
    from prune_search.storage.files import StorageError
    from prune_search.trial.errors import TrialError

    try:
        result = command_line()(standalone_mode=False)
        return result if isinstance(result, int) else 0
    except UsageProblem as error:
        getattr(error, "show")()  # noqa: B009 - of a class that typer does not export
        return USER
    except (KeyboardInterrupt, typer.Abort):
        complain("interrupted; what was stored is kept, and the same command goes on from there")
        return INTERRUPTED
    except UserError as error:
        for problem in error.problems:
            complain(str(problem))
        return USER
    except (TrialError, StorageError) as error:
        complain(str(error))
        return FAILED
