"""``prune-search delete``: delete the records of a search."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from prune_search.cli.arguments import Storage, examples
from prune_search.cli.searches import Name, find_search
from prune_search.cli.verbs import VERBS, Verb

EPILOG = examples("prune-search delete quickstart --yes")


@VERBS.register("delete", facts=Verb(epilog=EPILOG))
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
    from prune_search.storage.files import remove_tree
    from prune_search.storage.lease import still_held

    folder = find_search(storage, name)
    if folder.is_symlink():
        raise UserError([Problem("", "is a symbolic link; links are not followed", str(folder))])
    running = still_held(folder)
    if running is not None:
        text = f"is being run by process {running.pid} on {running.host}; stop that process first"
        raise UserError([Problem("", text, str(folder))])
    if not yes:
        if not sys.stdin.isatty():
            raise UserError([Problem("delete", "stdin is not a terminal: confirm with --yes")])
        if not typer.confirm(f"Delete the records of the search {name!r} in {folder}?"):
            typer.echo(f"{name}: not deleted")
            return
    # Without that file it is no search any more, and its name is free.
    remove_tree(folder, SEARCH_FILE)
    typer.echo(f"{name}: deleted. Stored training states and MLflow runs were kept.")
