"""Searches by name: what the verbs that look at the ledger share. Imports none of torch, ray, mlflow and optuna."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from prune_search.recipe.problems import Problem, UserError, not_one_of

if TYPE_CHECKING:
    from prune_search.ledger.records import SearchRecords
    from prune_search.storage.lease import Holder
    from prune_search.storage.places import StoragePath

Name = Annotated[str, typer.Argument(metavar="NAME", help="The search's name, see `prune-search list`.")]


def storage_folder(storage: str | None) -> StoragePath:
    """The storage; looking at it does not make it."""
    from prune_search.api.where import named_storage

    return named_storage(storage)


def find_search(storage: str | None, name: str) -> StoragePath:
    """The folder of a search.

    Raises:
        UserError: there is no such search; with the nearest name.
    """
    from prune_search.ledger.records import list_searches, search_folder

    root = storage_folder(storage)
    folder = search_folder(root, name)
    names = list_searches(root)
    if name not in names:
        text = (
            f"is no search of this storage: {not_one_of(name, names)}"
            if names
            else "there is no search in this storage yet"
        )
        raise UserError([Problem(name, text, str(root))])
    return folder


def read(folder: StoragePath) -> SearchRecords:
    """The records of a search.

    Raises:
        UserError: they are those of another version, or none.
    """
    from prune_search.ledger.records import read_search

    return read_search(folder)


@contextlib.contextmanager
def damaged(folder: StoragePath) -> Iterator[None]:
    """Records that somebody edited lack keys or hold other types: said in one line, not as a traceback.

    Raises:
        UserError: instead of what such records end in.
    """
    try:
        yield
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        text = f"its records are damaged: {type(error).__name__} {' '.join(str(error).split())}"
        raise UserError([Problem("", text, str(folder))]) from error


def holder(folder: StoragePath) -> Holder | None:
    """The living process that holds a search, or None."""
    from prune_search.storage.lease import read_holder

    found = read_holder(folder)
    return found if found is not None and found.alive() else None


def is_running(folder: StoragePath) -> bool:
    """Whether a living process runs a search."""
    return holder(folder) is not None
