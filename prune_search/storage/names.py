"""Checks names, so that no path leaves its folder."""

from __future__ import annotations

import re

from prune_search.recipe.problems import UserError, shown
from prune_search.storage.places import SomePlace, below

VERTICES = "vertices"
_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,127}")


def safe_child(root: SomePlace, name: str) -> SomePlace:
    """The path of `name` directly below `root`.

    Args:
        root: a folder.
        name: 1 to 128 of the letters a to z and A to Z, digits, dot, underscore and hyphen; not a dot first.

    Raises:
        UserError: for any other name, so that none leads out of `root` or hides in it.
    """
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise UserError(
            f"the name {shown(name)} is not allowed: use 1 to 128 letters, digits, '.', '_' and '-', not starting "
            "with a dot"
        )
    return below(root, name)


def vertex_folder(storage: SomePlace, address: str) -> SomePlace:
    """Where the states of a segment lie in a storage."""
    return below(storage, VERTICES, address[:2], address)
