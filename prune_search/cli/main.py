"""The ``prune-search`` program: registers the commands and maps errors to exit codes.

Nothing here imports torch, ray or mlflow before a command needs it.
"""

from __future__ import annotations

import sys
from typing import Annotated, Any

import typer

from prune_search.cli.arguments import examples
from prune_search.cli.exits import FAILED, INTERRUPTED, USER, complain
from prune_search.cli.verbs import VERBS, command_of
from prune_search.recipe.problems import UserError
from prune_search.version import __version__

EPILOG = examples(
    "prune-search run lottery-ticket",
    "prune-search run snip --set mask.sparsity=0.9",
    "prune-search launch quickstart",
    "prune-search methods",
    "prune-search validate my.yaml",
)

# Errors in the command line itself; typer exports only subclasses of this type.
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
    """Options of the program itself."""


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

    Exit codes: 0 success; 1 `doctor` found something to fix; 2 user error; 3 a trial failed; 130 Ctrl-C.
    """
    sys.exit(_code())


def _code() -> int:
    from prune_search.storage.files import StorageError
    from prune_search.storage.places import ensure_home
    from prune_search.trial.errors import TrialError

    ensure_home()
    try:
        result = command_line()(standalone_mode=False)
        return result if isinstance(result, int) else 0
    except UsageProblem as error:
        getattr(error, "show")()  # noqa: B009 - of a class that typer does not export
        return USER
    except (KeyboardInterrupt, typer.Abort):
        complain("Interrupted. Stored states are kept; run the same command again to continue.")
        return INTERRUPTED
    except UserError as error:
        for problem in error.problems:
            complain(str(problem))
        return USER
    except (TrialError, StorageError) as error:
        complain(str(error))
        return FAILED
    except OSError as error:
        # A file or folder that cannot be used: the system says which, and why.
        if error.filename is None or error.strerror is None:
            raise
        complain(f"{error.filename}: {error.strerror}")
        return FAILED
