"""The files of a storage in an object store (see `files.Store`).

An object is there whole or not at all. A folder is there once its manifest is, which is written last.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from prune_search.recipe.problems import Problem, UserError, shown
from prune_search.storage import object_client
from prune_search.storage.content import Content, joined
from prune_search.storage.errors import StorageError, one_line
from prune_search.storage.object_paths import ObjectPath
from prune_search.storage.places import state_home

# Longer than a request takes.
SETTLE_S = 2.0
IS_SERVICE = True


def prepare_storage(storage: ObjectPath) -> ObjectPath:
    """Ask the service once, and make the side folder."""
    try:
        storage.is_dir()
        side_folder(storage).mkdir(parents=True, exist_ok=True)
    except (StorageError, OSError) as error:
        text = f"{shown(str(storage))} cannot be used: {one_line(error)}"
        raise UserError([Problem("--storage", text)]) from None
    return storage


def check_writable(storage: ObjectPath) -> None:
    """Known only when something is written."""


def make_folder(folder: ObjectPath) -> None:
    """There are none."""


def side_folder(storage: ObjectPath) -> Path:
    """A folder of the user's on this machine."""
    return state_home() / f"{storage.bucket}-{hashlib.sha256(str(storage).encode()).hexdigest()[:12]}"


def put_file(path: ObjectPath, data: bytes, *, lasting: bool = True) -> None:
    """Every object is lasting."""
    path.write_bytes(data)


def create_if_absent(path: ObjectPath, data: bytes) -> bool:
    """By a conditional write, where the service knows such."""
    return path.create(data)


def creates_exclusively(folder: ObjectPath) -> bool:
    """Whether the service knows conditional writes."""
    return object_client.conditions_hold(folder.bucket, folder.key)


@contextlib.contextmanager
def open_regular(path: ObjectPath) -> Iterator[BinaryIO]:
    """An object's bytes, read at once."""
    yield io.BytesIO(path.read_bytes())


def content_name(name: str, sha256: str) -> str:
    """Where a file of a committed folder lies: ``state.safetensors`` of a digest is ``state.<sha256>.safetensors``.

    So no writer changes a file under the manifest of another.
    """
    stem, dot, ending = name.rpartition(".")
    return f"{stem}.{sha256}.{ending}" if dot else f"{name}.{sha256}"


def put_folder(folder: ObjectPath, files: Mapping[str, Content], valid: Callable[[ObjectPath], bool]) -> None:
    """The manifest last; the others under names that hold their digests."""
    *others, manifest = files
    for name in others:
        data = joined(files[name])
        (folder / content_name(name, hashlib.sha256(data).hexdigest())).write_bytes(data)
    if not (folder / manifest).create(joined(files[manifest])) and not valid(folder):
        (folder / manifest).write_bytes(joined(files[manifest]))


@dataclass(frozen=True)
class ObjectFolder:
    """A folder that `put_folder` stored (see `files.open_folder`)."""

    folder: ObjectPath

    @contextlib.contextmanager
    def open(self, name: str, at_most: int, sha256: str = "") -> Iterator[BinaryIO]:
        """An object's bytes, read at once."""
        try:
            data = (self.folder / (content_name(name, sha256) if sha256 else name)).read_bytes(at_most)
        except FileNotFoundError:
            if not sha256:
                raise
            # A storage that was copied here from a disk.
            data = (self.folder / name).read_bytes(at_most)
        yield io.BytesIO(data)


@contextlib.contextmanager
def open_folder(folder: ObjectPath) -> Iterator[ObjectFolder]:
    """Nothing is asked before a file is opened."""
    yield ObjectFolder(folder)


def remove_tree(folder: ObjectPath, first: str = "") -> None:
    """All objects below a prefix."""
    folder.remove_tree(first)


def remove_stale(storage: ObjectPath, folders: Sequence[str], older_than_s: float) -> int:
    """Nothing is ever half-written."""
    return 0


def walk_files(folder: ObjectPath) -> Iterator[tuple[str, int, float]]:
    """Name, size and time of every object below a prefix: one listing for all."""
    for path in folder.walk():
        if path.listed is not None:
            yield path.key.removeprefix(f"{folder.key}/"), path.listed.size, path.listed.changed
