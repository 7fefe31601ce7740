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
        if there.type == self.stored.device.type and there.index in (None, self.stored.device.index):
            return self
        moved = torch.empty((len(self), *self.shape), dtype=self.stored.dtype, device=there)
        size = self._rows_at_a_time()
        for begin in range(0, len(self), size):
            moved[begin : begin + size] = self._stored_between(begin, begin + size)
        return StoredSplit(moved, self.labels.to(there), self.dtype)

    def as_type(self, dtype: torch.dtype) -> StoredSplit:
        """The same examples, handed out as another type."""
        return replace(self, dtype=dtype)

    def chosen(self, places: Tensor) -> StoredSplit:
        """Some of the examples, int64 [n] in 0 … N-1; nothing is copied."""
        rows = places if self.rows is None else self.rows[places]
        return replace(self, labels=self.labels[places], rows=rows)

    def input_parts(self) -> Iterator[Tensor]:
        """All inputs in their order, a few megabytes at a time."""
        size = self._rows_at_a_time()
        for begin in range(0, len(self), size):
            yield self._between(begin, begin + size)

    def _rows_at_a_time(self) -> int:
        return max(1, PART_BYTES // max(1, 4 * self.stored[:1].numel()))

    def _stored_between(self, begin: int, end: int) -> Tensor:
        return self.stored[begin:end] if self.rows is None else self.stored[self.rows[begin:end]]

    def _between(self, begin: int, end: int) -> Tensor:
        chosen = self._stored_between(begin, end)
        return chosen.to(self.dtype, copy=self.rows is None, memory_format=torch.contiguous_format)


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
