"""A split whose inputs stay as they are stored, a mapped file perhaps: batches are converted when they are read."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy
import torch
from torch import Tensor

from prune_search.tasks.request import Request

# Bytes, as float32, that are looked at or moved at a time.
PART_BYTES = 16 * 2**20
# Types of numpy that torch has too, and whose values it converts as numpy does.
KEPT = (
    *(torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64),
    *(torch.float16, torch.bfloat16, torch.float32, torch.float64),
)
_SHARED = frozenset(map(numpy.dtype, ("u1", "i1", "i2", "i4", "i8", "f2", "f4", "f8")))


@dataclass(frozen=True, eq=False)
class StoredSplit:
    """The examples of one split, which is a choice among stored examples.

    Whatever is read from it lies in memory of its own, so that nothing can write to what is stored.

    Attributes:
        stored: [M, ...] of any real type, never written to; splits of one array share it.
        labels: int64 [N], each in 0 … classes-1.
        dtype: of the inputs that are handed out.
        rows: int64 [N], the examples' places in `stored`; None: all of it, in its order.
    """

    stored: Tensor
    labels: Tensor
    dtype: torch.dtype
    rows: Tensor | None = None

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def device(self) -> torch.device:
        """Where the examples lie."""
        return self.labels.device

    @property
    def inputs(self) -> Tensor:
        """All inputs [N, ...] at once, which can be many bytes: a new tensor at each call."""
        return self._between(0, len(self))

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one example."""
        return tuple(self.stored.shape[1:])

    def reader(
        self, request: Callable[[int], Request], batch: int, ahead: bool
    ) -> Callable[[int], tuple[Tensor, Tensor]]:
        """From the number of a batch to its inputs and labels."""

        def read(step: int) -> tuple[Tensor, Tensor]:
            chosen = request(step).chosen
            rows = chosen if self.rows is None else self.rows[chosen]
            return self.stored[rows].to(self.dtype).contiguous(), self.labels[chosen]

        return read

    def parts(self, batch: int) -> Iterator[tuple[Tensor, Tensor]]:
        """All examples in their order; the last batch can be smaller."""
        for begin in range(0, len(self), batch):
            yield self._between(begin, begin + batch), self.labels[begin : begin + batch]

    def head(self, count: int) -> tuple[Tensor, Tensor]:
        """The first examples and their labels."""
        return self.first(count), self.labels[:count]

    def first(self, count: int) -> Tensor:
        """The inputs of the first examples."""
        return self._between(0, count)

    def to(self, device: torch.device | str) -> StoredSplit:
        """The same examples on `device`, of which nothing else goes there."""
        there = torch.device(device)
        if lies_on(self.stored.device, there):
            return self
        return StoredSplit(moved(self.stored, self.rows, there), self.labels.to(there), self.dtype)

    def as_type(self, dtype: torch.dtype) -> StoredSplit:
        """The same examples, handed out as another type."""
        return replace(self, dtype=dtype)

    def chosen(self, places: Tensor) -> StoredSplit:
        """Some of the examples, int64 [n] in 0 … N-1; nothing is copied."""
        rows = places if self.rows is None else self.rows[places]
        return replace(self, labels=self.labels[places], rows=rows)

    def input_parts(self) -> Iterator[Tensor]:
        """All inputs in their order, a few megabytes at a time."""
        for part in parts_of(self.stored, self.rows):
            yield self._own(part)

    def _between(self, begin: int, end: int) -> Tensor:
        return self._own(between(self.stored, self.rows, begin, end))

    def _own(self, part: Tensor) -> Tensor:
        return part.to(self.dtype, copy=self.rows is None, memory_format=torch.contiguous_format)


def lies_on(device: torch.device, wanted: torch.device) -> bool:
    """Whether a device is the wanted one, which may name no number."""
    return wanted.type == device.type and wanted.index in (None, device.index)


def between(stored: Tensor, rows: Tensor | None, begin: int, end: int) -> Tensor:
    """Some of the examples of stored ones [M, ...], or of a choice of them: a view without rows, else a copy."""
    return stored[begin:end] if rows is None else stored[rows[begin:end]]


def parts_of(stored: Tensor, rows: Tensor | None) -> Iterator[Tensor]:
    """All examples of stored ones [M, ...], or of a choice of them, a few megabytes at a time."""
    size = max(1, PART_BYTES // max(1, 4 * stored[:1].numel()))
    for begin in range(0, len(stored if rows is None else rows), size):
        yield between(stored, rows, begin, begin + size)


def moved(stored: Tensor, rows: Tensor | None, device: torch.device) -> Tensor:
    """Stored examples [M, ...], or a choice of them, on another device; nothing else goes there."""
    there = torch.empty((len(stored if rows is None else rows), *stored.shape[1:]), dtype=stored.dtype, device=device)
    begin = 0
    for part in parts_of(stored, rows):
        there[begin : begin + len(part)] = part
        begin += len(part)
    return there


def as_stored(array: numpy.ndarray[Any, Any]) -> Tensor | None:
    """An array as a tensor of the same memory, which may be a file's and for reading only.

    Args:
        array: of any shape [...].

    Returns:
        The tensor, which nobody may write to; None where torch cannot have it as it is.
    """
    odd = any(stride < 0 or stride % array.itemsize for stride in array.strides)
    if array.dtype not in _SHARED or odd or not array.size:
        return None
    with warnings.catch_warnings():
        # That it is for reading only; a `StoredSplit` never writes to it.
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable", category=UserWarning)
        return torch.from_numpy(array)
