"""``prune-search delete``: delete the records of a search."""

from __future__ import annotations

import secrets
import shutil
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from prune_search.cli.arguments import Storage, examples
from prune_search.cli.searches import Name, find_search, holder

if TYPE_CHECKING:
    from pathlib import Path

EPILOG = examples("prune-search delete quickstart --yes")


def add_to(app: typer.Typer) -> None:
    """Add the verb to the command line."""
    app.command("delete", epilog=EPILOG)(delete)


def delete(
    name: Name,
    yes: Annotated[bool, typer.Option("--yes", help="Delete without asking for confirmation.")] = False,
    storage: Storage = None,
) -> None:
    """Delete the records of a search. It can no longer be resumed or compared.

    Stored training states are kept for other searches, and its MLflow runs are kept too.
    """
    from prune_search.ledger.records import SEARCH_FILE
    from prune_search.recipe.problems import Problem, UserError
    from prune_search.storage.object_paths import ObjectPath

    folder = find_search(storage, name)
    if folder.is_symlink():
        raise UserError([Problem("", "is a symbolic link; links are not followed", str(folder))])
    running = holder(folder)
    if running is not None:
        text = f"is being run by process {running.pid} on {running.host}; stop that process first"
        raise UserError([Problem("", text, str(folder))])
    if not yes:
        if not sys.stdin.isatty():
            raise UserError([Problem("delete", "stdin is not a terminal: confirm with --yes")])
        if not typer.confirm(f"Delete the records of the search {name!r} in {folder}?"):
            typer.echo(f"{name}: not deleted")
            return
    if isinstance(folder, ObjectPath):
        folder.remove_tree(SEARCH_FILE)
    else:
        _delete(folder, name)
    typer.echo(f"{name}: deleted. Stored training states and MLflow runs were kept.")


def _delete(folder: Path, name: str) -> None:
    from prune_search.ledger.records import SEARCH_FILE
    from prune_search.storage.files import StorageError, one_line

    aside = folder.with_name(f".deleted-{name}-{secrets.token_hex(4)}")
    try:
        # Renamed first, so that a half-deleted folder is not taken for a search and its name is free again.
        folder.rename(aside)
        (aside / SEARCH_FILE).unlink()
        shutil.rmtree(aside)
    except OSError as error:
        raise StorageError(f"cannot delete {name}: {one_line(error)}") from error
