"""States of a network that is sharded over workers: stored as those of a whole one, and divided anew when read.

What lies in the storage is one safetensors file per state, byte for byte that of a network which is not sharded, so
that any number of workers can go on from it, and whatever reads states needs not know. Where a state is written, no
worker holds a whole tensor: the first one, which alone has the storage, gets one worker's rows of one tensor at a time.
Where one is read, the first worker has it whole, as a file that is mapped where the state is large.

torch.distributed.checkpoint is not used: its safetensors writer (torch 2.8 and later) leaves one file per worker in a
folder that all workers must see, and the file that it makes of them has a header of its own.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from prune_search.storage.places import StoragePath
from prune_search.storage.state_parts import Arriving, stored_order, write_parts
from prune_search.storage.states import is_valid
from prune_search.tasks.shards import first_row, is_shard, part_of, sharded_like
from prune_search.tasks.workers import FIRST, Workers, connected


@dataclass(frozen=True)
class ShardedStates:
    """Moves states between the storage of the first worker and the shards of all.

    Attributes:
        workers: that hold the shards.
        like: by name, the sharded parameters of the network, whose places others take that belong to them.
    """

    workers: Workers
    like: Mapping[str, Tensor]

    @classmethod
    def of(cls, model: nn.Module, workers: Workers) -> ShardedStates:
        """Those of a sharded network."""
        return cls(workers, {name: one.detach() for name, one in model.named_parameters() if is_shard(one)})

    def shard_of(self, key: str, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor | None:
        """The parameter that a tensor of a state is sharded like; None of one that every worker has whole.

        A weight, its mask, its average and its optimizer buffers are; counts, figures and buffers of layers are not.
        The learned scores of its weights are stored as a list, and are shaped like it where they are sharded.

        Args:
            key: of the tensor, such as ``optimizer/fc.weight/exp_avg``: a part of it is the parameter's name.
            shape: of the whole tensor.
            dtype: of the tensor: a list of whole numbers counts units, whatever its length.
        """
        found = (self.like[part] for part in key.split("/") if part in self.like)
        return next(
            (
                one
                for one in found
                if shape == tuple(one.shape) or (shape == (one.numel(),) and dtype.is_floating_point)
            ),
            None,
        )

    # --- from the storage -----------------------------------------------------------------------------------------

    def divided(self, tensors: Mapping[str, Tensor] | None) -> dict[str, Tensor]:
        """A state that the first worker has read, as shards on all of them; they all call this.

        Args:
            tensors: of the first worker, whole, on its CPU; whatever the others give is not looked at.
        """
        own = dict(tensors or {})
        described = self.workers.agreed(lambda: [(name, tuple(one.shape), one.dtype) for name, one in own.items()])
        plain = {name for name, shape, dtype in described if self.shard_of(name, shape, dtype) is None}
        found = self.workers.sent({name: one for name, one in own.items() if name in plain})
        for name, shape, dtype in described:
            if (like := self.shard_of(name, shape, dtype)) is not None:
                whole = own.get(name)
                part = self._own_rows(None if whole is None else whole.reshape(like.shape), like, dtype)
                found[name] = sharded_like(part.to(part_of(like).device), like)
        return {name: found[name] for name, _, _ in described}

    def _own_rows(self, whole: Tensor | None, like: Tensor, dtype: torch.dtype) -> Tensor:
        """This worker's rows of a tensor that the first one has."""
        for rank in range(1, self.workers.size):
            if self.workers.first and whole is not None:
                self._send(whole[self._rows(like, rank)], rank)
        if self.workers.first and whole is not None:
            return whole[self._rows(like, FIRST)].clone()
        return self._received(like, self.workers.rank, dtype, FIRST)

    def _rows(self, like: Tensor, rank: int) -> slice:
        """Which rows a worker holds."""
        return slice(first_row(like, rank, self.workers.size), first_row(like, rank + 1, self.workers.size))

    # --- to the storage -------------------------------------------------------------------------------------------

    def write(
        self,
        folder: StoragePath | None,
        tensors: Mapping[str, Tensor],
        meta: Mapping[str, Any],
        listed: Collection[str] = (),
    ) -> None:
        """Store a state as `states.write_state` does; all workers call this.

        Args:
            folder: where it stands afterwards; None on all but the first worker, or where none keeps states.
            tensors: of the state, shards and others.
            meta: plain JSON data of the first worker.
            listed: the shards that are stored as a list of their values, [values], as the scores of single weights are.

        Raises:
            StorageError: on the first worker: it could not be stored.
        """
        if not self.workers.agreed(lambda: folder is not None and not is_valid(folder)):
            return
        shapes = {name: (one.numel(),) if name in listed else tuple(one.shape) for name, one in tensors.items()}
        arriving = {name: Arriving(one.dtype, shapes[name], partial(self._parts, one)) for name, one in tensors.items()}
        if folder is not None and self.workers.first:
            write_parts(folder, arriving, meta)
            return
        for name in stored_order(arriving)[0]:
            if is_shard(tensors[name]):
                self._send(part_of(tensors[name]), FIRST)

    def _parts(self, tensor: Tensor) -> Iterator[Tensor]:
        """The rows of a tensor, worker by worker, as they come to the first one."""
        yield part_of(tensor).cpu()
        if is_shard(tensor):
            for rank in range(1, self.workers.size):
                yield self._received(tensor, rank, tensor.dtype, rank)

    def _send(self, part: Tensor, to: int) -> None:
        if part.numel():
            with connected():
                # Bytes: not every type of numbers travels.
                flat = part.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
                torch.distributed.send(flat, to, group=self.workers.words)

    def _received(self, like: Tensor, rank: int, dtype: torch.dtype, source: int) -> Tensor:
        """The rows of a worker, from whoever sends them."""
        rows = self._rows(like, rank)
        part = torch.empty((rows.stop - rows.start, *like.shape[1:]), dtype=dtype)
        if part.numel():
            with connected():
                torch.distributed.recv(part.reshape(-1).view(torch.uint8), source, group=self.workers.words)
        return part
