"""``prune-search delete``: the records of a search."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from prune_search.cli.arguments import Storage
from prune_search.cli.searches import Name, find_search, holder
from prune_search.cli.verbs import VERBS, Verb

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
    from prune_search.storage.files import remove_tree

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
    # Without that file it is no search any more, and its name is free.
    remove_tree(folder, SEARCH_FILE)
    typer.echo(f"{name}: deleted; stored training states and MLflow's runs stay")
