"""Files and folders of a storage, wherever it lies. Each is written whole or not at all.

`Store` is what a kind of storage can do. There are two: `local_files`, for a folder of any file system, and
`object_files`, for a prefix in an object store. Each function here asks the store of the path that it is given; this is
the one place that tells them apart.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Protocol, cast

from prune_search.storage import local_files, object_files
from prune_search.storage.content import Content
from prune_search.storage.errors import StorageError, one_line
from prune_search.storage.object_paths import ObjectPath
from prune_search.storage.places import SomePlace, StoragePath

__all__ = [
    "Content",
    "OpenFolder",
    "StorageError",
    "Store",
    "check_writable",
    "create_if_absent",
    "creates_exclusively",
    "is_service",
    "make_folder",
    "one_line",
    "open_folder",
    "open_regular",
    "prepare_storage",
    "put_file",
    "put_folder",
    "remove_stale",
    "remove_tree",
    "settle_s",
    "side_folder",
    "walk_files",
]


class OpenFolder(Protocol):
    """A folder that `put_folder` stored, while it is read."""

    def open(self, name: str, at_most: int, sha256: str = "") -> AbstractContextManager[BinaryIO]: ...


class Store(Protocol[SomePlace]):
    """What a kind of storage can do with its paths; the functions of the same names say what each promises.

    Attributes:
        SETTLE_S: seconds after which every process sees what was written; longer than a write takes.
        IS_SERVICE: whether every look is a request to a service, which takes a while and can fail.
    """

    @property
    def SETTLE_S(self) -> float: ...
    @property
    def IS_SERVICE(self) -> bool: ...
    def prepare_storage(self, storage: SomePlace, /) -> SomePlace: ...
    def check_writable(self, storage: SomePlace, /) -> None: ...
    def make_folder(self, folder: SomePlace, /) -> None: ...
    def side_folder(self, storage: SomePlace, /) -> Path: ...
    def put_file(self, path: SomePlace, data: bytes, /, *, lasting: bool = True) -> None: ...
    def create_if_absent(self, path: SomePlace, data: bytes, /) -> bool: ...
    def creates_exclusively(self, folder: SomePlace, /) -> bool: ...
    def open_regular(self, path: SomePlace, /) -> AbstractContextManager[BinaryIO]: ...
    def put_folder(
        self, folder: SomePlace, files: Mapping[str, Content], valid: Callable[[SomePlace], bool], /
    ) -> None: ...
    def open_folder(self, folder: SomePlace, /) -> AbstractContextManager[OpenFolder]: ...
    def remove_tree(self, folder: SomePlace, first: str = "", /) -> None: ...
    def remove_stale(self, storage: SomePlace, folders: Sequence[str], older_than_s: float, /) -> int: ...
    def walk_files(self, folder: SomePlace, /) -> Iterator[tuple[str, int, float]]: ...


_LOCAL: Store[Path] = local_files
_OBJECTS: Store[ObjectPath] = object_files


def store_of(path: SomePlace) -> Store[SomePlace]:
    """The store that a path leads into."""
    return cast("Store[SomePlace]", _OBJECTS if isinstance(path, ObjectPath) else _LOCAL)


def prepare_storage(storage: SomePlace) -> SomePlace:
    """Make a storage where there is none, and see that it can be used.

    Returns:
        Its absolute path.

    Raises:
        UserError: it is a file, or cannot be made; or the object store is away or refuses it.
    """
    return store_of(storage).prepare_storage(storage)


def check_writable(storage: StoragePath) -> None:
    """Find out before anything is made whether this user may write to a storage that is there.

    An object store tells only when something is written.

    Raises:
        UserError: it, or a folder of it that another user has made, is for reading only.
    """
    store_of(storage).check_writable(storage)


def make_folder(folder: StoragePath) -> None:
    """Make a folder and those above it, where they are not there.

    Raises:
        StorageError: it cannot be made.
    """
    store_of(folder).make_folder(folder)


def side_folder(storage: StoragePath) -> Path:
    """Where lies what only a file system can hold: MLflow's SQLite file, and notes of what it has got.

    The storage itself where it is a folder; of an object store, a folder of the user's on this machine,
    ``$XDG_STATE_HOME/prune-search/<bucket>-<digest of the storage's name>`` (by default ``~/.local/state``).
    """
    return store_of(storage).side_folder(storage)


def put_file(path: StoragePath, data: bytes, *, lasting: bool = True) -> None:
    """Store a file under its name, whole or not at all; one that stood there is replaced.

    Args:
        path: where it stands afterwards. Its folder must exist, where it is no object store.
        data: its content.
        lasting: whether it is to outlast a power failure too, which costs milliseconds on a disk. Without, one of the
            last half minute can then be lost, or cut.

    Raises:
        StorageError: it could not be stored; what stood there before still does, and nothing partial is left.
    """
    store_of(path).put_file(path, data, lasting=lasting)


def create_if_absent(path: StoragePath, data: bytes) -> bool:
    """Store a file under its name, whole, unless something stands there; of several at once exactly one succeeds.

    An object store without conditional writes is found out, and said once: there two can succeed.

    Args:
        path: where it stands afterwards. Its folder must exist, where it is no object store.
        data: its content, which nobody else writes: a token, say.

    Returns:
        Whether this call made it.

    Raises:
        StorageError: it could not be stored.
    """
    return store_of(path).create_if_absent(path, data)


def creates_exclusively(folder: StoragePath) -> bool:
    """Whether `create_if_absent` keeps its word in a folder, tried out on a file there.

    Raises:
        StorageError: it could not be tried.
    """
    return store_of(folder).creates_exclusively(folder)


def open_regular(path: StoragePath) -> AbstractContextManager[BinaryIO]:
    """Open a regular file to be read. A link is not followed; a pipe or a device is not opened.

    Raises:
        OSError: it is not there, no regular file, or may not be read.
        ValueError: no file can have that name, or an object is over 1 GiB.
        StorageError: an object store is away.
    """
    return store_of(path).open_regular(path)


def put_folder(folder: SomePlace, files: Mapping[str, Content], valid: Callable[[SomePlace], bool]) -> None:
    """Store a folder of files under its name, whole or not at all.

    The first valid one stays: where `folder` exists and is valid it is kept, where it is corrupt it is replaced.

    Args:
        folder: where it stands afterwards. Its parents are made.
        files: name to content, or its parts; the last one is the manifest, which names the sha256 of the others.
        valid: whether a folder is complete and unaltered.

    Raises:
        StorageError: it could not be stored; what stood there before still does, and nothing partial counts.
    """
    store_of(folder).put_folder(folder, files, valid)


def open_folder(folder: StoragePath) -> AbstractContextManager[OpenFolder]:
    """Open a folder that `put_folder` stored, to read from it what was stored together.

    Its ``open(name, at_most, sha256)`` opens one of its files, as `open_regular` does: `at_most` is the bytes that it
    can have, `sha256` what the manifest says of its content, empty for the manifest itself.

    Raises:
        OSError: it is not there, or is a link.
        StorageError: an object store is away.
    """
    return store_of(folder).open_folder(folder)


def remove_tree(folder: StoragePath, first: str = "") -> None:
    """Remove a folder. It is gone at once: nobody finds it half removed.

    Args:
        folder: it need not exist. A link is removed, and not followed.
        first: name of the file without which the others count for nothing: it goes before them.

    Raises:
        StorageError: it could not be removed.
    """
    store_of(folder).remove_tree(folder, first)


def remove_stale(storage: StoragePath, folders: Sequence[str], older_than_s: float) -> int:
    """Remove what dead processes left half-written; in an object store nothing ever is.

    Args:
        storage: it need not exist.
        folders: patterns of the folders in it that are looked into, such as ``searches/*``.
        older_than_s: seconds since something in it last changed. Where several machines share the storage, a process
            of another machine looks dead from here, so that this must be longer than any write takes.

    Returns:
        How many were removed.
    """
    return store_of(storage).remove_stale(storage, folders, older_than_s)


@dataclass(frozen=True)
class FoundFile:
    """A file that was found below a folder.

    Attributes:
        name: its path in that folder, with slashes.
        size: bytes.
        changed: seconds since the epoch, when it was written.
    """

    name: str
    size: int
    changed: float


def walk_files(folder: StoragePath) -> Iterator[FoundFile]:
    """Every regular file below a folder, at any depth. Links are not followed; what cannot be read is passed over.

    Raises:
        StorageError: the object store is away.
    """
    return (FoundFile(*found) for found in store_of(folder).walk_files(folder))


def settle_s(path: StoragePath) -> float:
    """Seconds after which every process sees what was written there; longer than a write takes."""
    return store_of(path).SETTLE_S


def is_service(path: StoragePath) -> bool:
    """Whether every look there is a request to a service, which takes a while and can fail."""
    return store_of(path).IS_SERVICE
