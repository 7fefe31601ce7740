"""Caches recently used states in memory, because a search's trials read the same ones repeatedly.

A state is looked up by the sha256 that its manifest gives, so that what is handed out are the bytes that the manifest
speaks of, whatever became of the file. Nothing is kept until `allow` is called, as a search's workers do.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Mapping

import torch
from torch import Tensor

# What a worker keeps: some fifty states of a small network, none of a large one, which takes long to train anyway.
WORKER_BYTES = 64 * 2**20


class TensorCache:
    """Tensors by the sha256 of the file that they were read from or written to; what was used longest ago goes first.

    Attributes:
        most_bytes: that the tensors may take together; 0 keeps nothing.
    """

    def __init__(self, most_bytes: int = 0) -> None:
        self.most_bytes = most_bytes
        self._states: OrderedDict[str, dict[str, Tensor]] = OrderedDict()
        self._bytes = 0
        # States are written in a thread, and read in another.
        self._lock = threading.RLock()

    def get(self, sha256: str) -> dict[str, Tensor] | None:
        """Copies of the tensors, sorted by name, in memory of their own; None where they are not there."""
        with self._lock:
            if (state := self._states.get(sha256)) is None:
                return None
            self._states.move_to_end(sha256)
        return {name: tensor.clone() for name, tensor in state.items()}

    def put(self, sha256: str, tensors: Mapping[str, Tensor]) -> None:
        """Cache copies of tensors of any shape [...] and device, laid out as in a file, if there is room."""
        size = sum(tensor.nbytes for tensor in tensors.values())
        if sha256 in self._states or not 0 < size <= self.most_bytes:
            return
        copies = {name: _copy(tensors[name]) for name in sorted(tensors)}
        with self._lock:
            if sha256 not in self._states:
                self._states[sha256] = copies
                self._bytes += size
            self._shrink()

    def allow(self, most_bytes: int) -> None:
        """Keep so many bytes from now on."""
        with self._lock:
            self.most_bytes = most_bytes
            self._shrink()

    def _shrink(self) -> None:
        while self._bytes > self.most_bytes:
            _, oldest = self._states.popitem(last=False)
            self._bytes -= sum(tensor.nbytes for tensor in oldest.values())


def _copy(tensor: Tensor) -> Tensor:
    return tensor.detach().to("cpu", copy=True, memory_format=torch.contiguous_format)


# Of this process.
CACHE = TensorCache()
