"""Resolves where a storage is: a folder of any file system, or a prefix in an object store."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import TypeVar, cast

from prune_search.recipe.problems import Problem, UserError, shown
from prune_search.storage.object_client import SCHEME
from prune_search.storage.object_paths import ObjectPath

StoragePath = Path | ObjectPath
SomePlace = TypeVar("SomePlace", bound=StoragePath)
_SCHEMES = ("s3:", "gs:", "az:", "http:", "https:", "file:")


def place_of(text: str | StoragePath) -> StoragePath:
    """The place that a name means: ``s3://bucket/prefix``, or a folder.

    Raises:
        UserError: another scheme, no proper bucket or prefix, or credentials in it.
    """
    if not isinstance(text, str):
        return text
    if text.startswith(SCHEME):
        return ObjectPath.parse(text)
    scheme, separator, _ = text.partition("://")
    if separator and scheme.isalnum():
        raise UserError([Problem("--storage", f"must be a folder or {SCHEME}BUCKET/PREFIX (got {shown(scheme)}://…)")])
    return Path(text)


def below(place: SomePlace, *names: str) -> SomePlace:
    """A place below another one, of its kind."""
    for name in names:
        place = cast(SomePlace, place / name)
    return place


def names_in(folder: StoragePath) -> list[str]:
    """The names in a folder.

    Raises:
        OSError: it cannot be read.
        StorageError: the object store is away.
    """
    return [path.name for path in folder.iterdir()] if isinstance(folder, ObjectPath) else os.listdir(folder)


def local_folder(folder: Path, option: str) -> Path:
    """A folder that an option names, which must be one of this machine.

    Raises:
        UserError: it is the address of an object store or of another service.
    """
    if folder.parts[:1] and folder.parts[0] in _SCHEMES:
        raise UserError([Problem(option, f"must be a folder on this machine (got {shown(str(folder))})")])
    return folder


def side_folder(storage: StoragePath) -> Path:
    """Where lies what only a file system can hold: MLflow's SQLite file, and notes of what it has got.

    The storage itself where it is a folder; of an object store, a folder of the user's on this machine,
    ``$XDG_STATE_HOME/prune-search/<bucket>-<digest of the storage's name>`` (by default ``~/.local/state``).
    """
    if isinstance(storage, Path):
        return storage.absolute()
    return state_home() / f"{storage.bucket}-{hashlib.sha256(str(storage).encode()).hexdigest()[:12]}"


def state_home() -> Path:
    """The user's own folder on this machine: ``$XDG_STATE_HOME/prune-search``, by default below ``~/.local/state``."""
    state = os.environ.get("XDG_STATE_HOME", "")
    home = Path(state) if os.path.isabs(state) else Path.home() / ".local" / "state"
    return home / "prune-search"
