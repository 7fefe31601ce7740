"""Finds searches by name, for the commands that read the ledger. Imports no torch, ray, mlflow or optuna."""

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

Name = Annotated[str, typer.Argument(metavar="NAME", help="Name of the search; `prune-search list` shows them.")]


def storage_folder(storage: str | None) -> StoragePath:
    """The storage. It is not created."""
    from prune_search.api.where import named_storage

    return named_storage(storage)


def find_search(storage: str | None, name: str) -> StoragePath:
    """The folder of a search.

    Raises:
        UserError: there is no such search; suggests the nearest name.
    """
    from prune_search.ledger.records import list_searches, search_folder

    root = storage_folder(storage)
    folder = search_folder(root, name)
    names = list_searches(root)
    if name not in names:
        text = (
            f"is not a search in this storage: {not_one_of(name, names)}"
            if names
            else "this storage has no searches yet"
        )
        raise UserError([Problem(name, text, str(root))])
    return folder


def latest_searches(storage: str | None) -> list[str]:
    """The names of all searches that can be read: those that run first, then the one that was launched last."""
    from prune_search.ledger.records import list_searches, search_folder

    root = storage_folder(storage)
    known: list[tuple[bool, float, str]] = []
    for name in list_searches(root):
        folder = search_folder(root, name)
        # One that cannot be read is told when it is asked for by its name.
        with contextlib.suppress(UserError, LookupError, TypeError, ValueError):
            known.append((is_running(folder), float(read(folder).definition.get("created") or 0.0), name))
    return [name for *_, name in sorted(known, reverse=True)]


def latest_search(storage: str | None) -> str:
    """The name of the search that runs, or else of the one that was launched last.

    Raises:
        UserError: the storage has no searches.
    """
    names = latest_searches(storage)
    if not names:
        raise UserError([Problem("", "this storage has no searches yet", str(storage_folder(storage)))])
    return names[0]


def read(folder: StoragePath) -> SearchRecords:
    """The records of a search.

    Raises:
        UserError: there are none, or another version wrote them.
    """
    from prune_search.ledger.records import read_search

    return read_search(folder)


@contextlib.contextmanager
def damaged(folder: StoragePath) -> Iterator[None]:
    """Report damaged records, such as edited ones with missing keys, as one line instead of a traceback.

    Raises:
        UserError: in place of the errors that such records cause.
    """
    try:
        yield
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        text = f"its records are damaged: {type(error).__name__} {' '.join(str(error).split())}"
        raise UserError([Problem("", text, str(folder))]) from error


def holder(folder: StoragePath) -> Holder | None:
    """The live process that runs a search, or None."""
    from prune_search.storage.lease import read_holder

    found = read_holder(folder)
    return found if found is not None and found.alive() else None


def is_running(folder: StoragePath) -> bool:
    """Whether a live process runs a search."""
    return holder(folder) is not None
