"""Stores a state whose tensors arrive in parts, and never holds a whole one: the bytes are those of a whole state.

The file is put together in a temporary file of this machine (in `$TMPDIR`), and goes to the storage from there.
"""

from __future__ import annotations

import hashlib
import math
import mmap
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from io import FileIO
from itertools import chain
from typing import Any

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
    return (torch.uint8, (-(-math.prod(one.shape) // 8),)) if one.is_mask else (one.dtype, one.shape)


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
    pieces = chain(begin, _pieces(tensors[name] for name in order))
    try:
        # Without a buffer: closing a file whose buffer finds no room is an error of its own.
        with tempfile.TemporaryFile(prefix="prune-search-state-", buffering=0) as file:
            sha256 = _filled(file, pieces)
            with mmap.mmap(file.fileno(), file.tell(), access=mmap.ACCESS_READ) as mapped, memoryview(mapped) as data:
                put_state(folder, [data], sha256, bits, meta)
    except OSError as error:
        for _ in pieces:
            pass
        raise StorageError(f"a state cannot be put together in {tempfile.gettempdir()}: {one_line(error)}") from error


def _pieces(tensors: Iterable[Arriving]) -> Iterator[bytes | memoryview]:
    """The bytes of tensors as a state's file has them, as they arrive."""
    for one in tensors:
        for part in packed_parts(one.parts()) if one.is_mask else one.parts():
            yield from encoded_data(part)


def _filled(file: FileIO, pieces: Iterable[bytes | memoryview]) -> str:
    """Write the file, and give its sha256.

    Raises:
        OSError: there is no room.
    """
    sha = hashlib.sha256()
    for piece in pieces:
        sha.update(piece)
        left = memoryview(piece).cast("B")
        while left:
            left = left[file.write(left) :]
    return sha.hexdigest()
