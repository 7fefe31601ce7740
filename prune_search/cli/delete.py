"""``prune-search delete``: the records of a search."""

from __future__ import annotations

import secrets
import shutil
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from prune_search.cli.arguments import Storage
from prune_search.cli.searches import Name, find_search, holder
from prune_search.cli.verbs import VERBS, Verb

if TYPE_CHECKING:
    from pathlib import Path

EPILOG = "Example:  prune-search delete quickstart --yes"


@VERBS.register("delete", facts=Verb(epilog=EPILOG))
def delete(
    name: Name,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    storage: Storage = None,
) -> None:
    """Delete a search's records: it can then be neither resumed nor compared.

    Stored training states stay for other searches, and so does what MLflow was told.
    """
    from prune_search.ledger.records import SEARCH_FILE
    from prune_search.recipe.problems import Problem, UserError
    from prune_search.storage.object_paths import ObjectPath

    folder = find_search(storage, name)
    if folder.is_symlink():
        raise UserError([Problem("", "is a link, which is not followed", str(folder))])
    running = holder(folder)
    if running is not None:
        text = f"process {running.pid} on {running.host} runs it; end that first"
        raise UserError([Problem("", text, str(folder))])
    if not yes:
        if not sys.stdin.isatty():
            raise UserError([Problem("delete", "nobody is here to be asked: pass --yes")])
        if not typer.confirm(f"Delete the records of the search {name!r} in {folder}?"):
            typer.echo(f"{name}: left as it is")
            return
    if isinstance(folder, ObjectPath):
        folder.remove_tree(SEARCH_FILE)
    else:
        _delete(folder, name)
    typer.echo(f"{name}: deleted; stored training states and MLflow's runs stay")


def _delete(folder: Path, name: str) -> None:
    from prune_search.ledger.records import SEARCH_FILE
    from prune_search.storage.files import StorageError, one_line

    aside = folder.with_name(f".deleted-{name}-{secrets.token_hex(4)}")
    try:
        # Moved away first: what is half deleted is no search any more, and its name is free.
        folder.rename(aside)
        (aside / SEARCH_FILE).unlink()
        shutil.rmtree(aside)
    except OSError as error:
        raise StorageError(f"{name} cannot be deleted: {one_line(error)}") from error
