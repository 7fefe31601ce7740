"""Stores a state whose tensors arrive in parts, and never holds a whole one: the bytes are those of a whole state.

The file is put together in a temporary file of this machine (in `$TMPDIR`), and goes to the storage from there.
"""

from __future__ import annotations

import hashlib
import mmap
import tempfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import IO, Any

import torch
from torch import Tensor

from prune_search.storage.files import StorageError, one_line
from prune_search.storage.packed_masks import packed_name, packed_parts
from prune_search.storage.places import StoragePath
from prune_search.storage.states import put_state
from prune_search.storage.tensors import encoded_data, encoded_header


@dataclass(frozen=True, eq=False)
class Arriving:
    """A tensor of a state.

    Attributes:
        dtype: of its numbers.
        shape: of the whole tensor.
        parts: gives its rows, some at a time, in their order; called once.
    """

    dtype: torch.dtype
    shape: tuple[int, ...]
    parts: Callable[[], Iterable[Tensor]]

    @property
    def is_mask(self) -> bool:
        """Whether it is stored as bits."""
        return self.dtype == torch.bool


def stored_order(tensors: Mapping[str, Arriving]) -> tuple[list[str], list[bytes]]:
    """The tensors in the order in which a state's file has them, and how the file begins.

    Raises:
        ValueError: as `tensors.encoded_parts`.
    """
    names = {packed_name(name, one.shape) if one.is_mask else name: name for name, one in tensors.items()}
    order, begin = encoded_header({stored: _described(tensors[name]) for stored, name in names.items()})
    return [names[stored] for stored in order], begin


def _described(one: Arriving) -> tuple[torch.dtype, tuple[int, ...]]:
    count = 1
    for side in one.shape:
        count *= side
    return (torch.uint8, (-(-count // 8),)) if one.is_mask else (one.dtype, one.shape)


def write_parts(folder: StoragePath, tensors: Mapping[str, Arriving], meta: Mapping[str, Any]) -> None:
    """Store a state as `states.write_state` does; the caller has seen that no valid one is there.

    Every part is taken, even where it can no longer be stored: whoever sends it waits for that.

    Args:
        folder: where it stands afterwards.
        tensors: by name.
        meta: plain JSON data.

    Raises:
        StorageError: it could not be stored; no partial state is left.
    """
    order, begin = stored_order(tensors)
    bits = any(one.is_mask for one in tensors.values())
    with tempfile.TemporaryFile(prefix="prune-search-state-") as file:
        sha256 = _filled(file, begin, (tensors[name] for name in order))
        size = file.tell()
        with mmap.mmap(file.fileno(), size, access=mmap.ACCESS_READ) as mapped, memoryview(mapped) as data:
            put_state(folder, [data], sha256, bits, meta)


def _filled(file: IO[bytes], begin: Iterable[bytes], tensors: Iterable[Arriving]) -> str:
    """Write the file, and give its sha256."""
    sha, wrong = hashlib.sha256(), None

    def put(data: bytes | memoryview) -> OSError | None:
        sha.update(data)
        try:
            file.write(data)
        except OSError as error:
            return error
        return None

    for text in begin:
        wrong = wrong or put(text)
    for one in tensors:
        for part in packed_parts(one.parts()) if one.is_mask else one.parts():
            for data in encoded_data(part):
                wrong = wrong or put(data)
    if wrong is None:
        try:
            file.flush()
        except OSError as error:
            wrong = error
    if wrong is not None:
        raise StorageError(f"a state cannot be put together in {tempfile.gettempdir()}: {one_line(wrong)}") from wrong
    return sha.hexdigest()
