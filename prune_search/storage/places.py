"""Resolves where a storage is: a folder of any file system, or a prefix in an object store."""

from __future__ import annotations

import atexit
import getpass
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol, Self, TypeVar

from prune_search.recipe.problems import Problem, UserError, shown
from prune_search.storage.object_client import SCHEME
from prune_search.storage.object_paths import ObjectPath


class StoragePath(Protocol):
    """A place in a storage: `pathlib.Path` for a folder, `ObjectPath` for an object store.

    These are the methods of `pathlib.Path` that the library uses, with the same meaning. What is written whole, created
    exclusively or removed at once goes through `files`.
    """

    @property
    def name(self) -> str: ...
    @property
    def parent(self) -> Self: ...
    def __truediv__(self, name: str, /) -> Self: ...
    def __hash__(self) -> int: ...
    def absolute(self) -> Self: ...
    def is_absolute(self) -> bool: ...
    def exists(self) -> bool: ...
    def is_file(self) -> bool: ...
    def is_dir(self) -> bool: ...
    def is_symlink(self) -> bool: ...
    def iterdir(self) -> Iterator[Self]: ...
    def read_bytes(self) -> bytes: ...
    def mkdir(self, *, parents: bool = False, exist_ok: bool = False) -> None: ...
    def rmdir(self) -> None: ...
    def touch(self) -> None: ...
    def unlink(self, missing_ok: bool = False) -> None: ...


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
    try:
        text.encode()
    except UnicodeEncodeError:
        raise UserError([Problem("--storage", f"must be a name in UTF-8 (got {shown(ascii(text))})")]) from None
    return Path(text)


def resolved(path: Path) -> Path:
    """A path from the root on, without ``..``; links stay as they are where no ``..`` leads out of one."""
    return Path(os.path.realpath(path)) if ".." in path.parts else path.absolute()


def below(place: SomePlace, *names: str) -> SomePlace:
    """A place below another one, of its kind."""
    for name in names:
        place = place / name
    return place


def names_in(folder: StoragePath) -> list[str]:
    """The names in a folder.

    Raises:
        OSError: it cannot be read.
        StorageError: the object store is away.
    """
    return [path.name for path in folder.iterdir()]


def local_folder(folder: Path, option: str) -> Path:
    """A folder that an option names, which must be one of this machine.

    Raises:
        UserError: it is the address of an object store or of another service.
    """
    if folder.parts[:1] and folder.parts[0] in _SCHEMES:
        raise UserError([Problem(option, f"must be a folder on this machine (got {shown(str(folder))})")])
    return folder


_given_home: str | None = None


def ensure_home() -> None:
    """Give this process a home where it has none. Called before threads are started; twice is once.

    A container that is run under a number that no user has (``docker run --user 12345``) can have neither ``$HOME`` nor
    an entry that tells it. Libraries do not expect that: MLflow cannot be imported, Ray keeps its token nowhere, and
    others make a folder named ``~``. So ``$HOME`` is set to a new folder of this user alone among the temporary ones,
    which is removed when the process ends. Nothing that has to last is kept in it (see `state_home`). ``$USER`` is set
    too where nothing tells the user's name.
    """
    global _given_home
    try:
        getpass.getuser()
    except (KeyError, OSError):
        os.environ["USER"] = f"user-{os.getuid()}"
    if _home() is not None:
        return
    _given_home = tempfile.mkdtemp(prefix="prune-search-home-")
    os.environ["HOME"] = _given_home
    atexit.register(_remove_home, _given_home, os.getpid())


def _home() -> Path | None:
    try:
        return Path.home()
    except RuntimeError:
        return None


def _remove_home(folder: str, made_by: int) -> None:
    # A process that was forked has inherited this, and the folder is not its own.
    if os.getpid() == made_by:
        shutil.rmtree(folder, ignore_errors=True)


def state_home() -> Path:
    """The user's own folder on this machine: ``$XDG_STATE_HOME/prune-search``, by default below ``~/.local/state``.

    Raises:
        UserError: there is no ``$XDG_STATE_HOME``, and no home that lasts.
    """
    state = os.environ.get("XDG_STATE_HOME", "")
    if os.path.isabs(state):
        return Path(state) / "prune-search"
    home = _home()
    if home is None or str(home) == _given_home:
        raise UserError("this user has no home folder to keep notes in: set HOME or XDG_STATE_HOME to a folder")
    return home / ".local" / "state" / "prune-search"
