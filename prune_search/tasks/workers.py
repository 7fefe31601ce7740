"""Workers that run the same trial: each passes over its share of every batch, and the first one decides for all.

Every worker is a process that runs the very same code on the very same weights. What is summed over a batch is summed
over the workers' shares; what could come out differently on two of them (which stored state is found, whether somebody
asked for the trial to end) is found out by the first worker and told to the others.
"""

from __future__ import annotations

import contextlib
import datetime
import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor

from prune_search.tasks.structures import examples_in, some_examples

T = TypeVar("T")
FIRST = 0
# A worker waits while the first one reads or writes the storage. One that has died is noticed elsewhere: its connection
# breaks, or whoever started it looks after it.
WAIT_S = 86_400
# By which torch's messages of a broken connection are told from others: not all of them are of a kind of their own.
TRANSPORTS = ("gloo", "NCCL", "Connection closed by peer", "Connection reset by peer")


class WorkerLostError(Exception):
    """A worker that trains along is gone: the trial is tried again with others."""


class EndedError(Exception):
    """The first worker's attempt has come to an end, which it has written down; the others have nothing to add."""


class WorkersDifferError(Exception):
    """Workers that should hold the same hold something else, so that what they train cannot be trusted."""


@contextlib.contextmanager
def connected() -> Iterator[None]:
    """What workers do together.

    Raises:
        WorkerLostError: the connection to one of them broke.
    """
    try:
        yield
    except RuntimeError as error:
        if isinstance(error, torch.distributed.DistError) or any(word in str(error) for word in TRANSPORTS):
            lines = str(error).splitlines() or [""]
            raise WorkerLostError(f"a data-parallel worker was lost: {lines[0][:300]}") from error
        raise


@dataclass(frozen=True)
class Workers:
    """The workers of a trial, as one of them sees them.

    Attributes:
        rank: of this one; 0 is the first.
        size: how many there are.
        words: the process group of what is said between passes, on CPUs whatever the default group's backend.
    """

    rank: int = FIRST
    size: int = 1
    words: Any = None

    @classmethod
    def joined(cls) -> Workers:
        """The workers of torch's default process group, which was initialised before; all of them call it."""
        dist = torch.distributed
        words = dist.new_group(backend="gloo", timeout=datetime.timedelta(seconds=WAIT_S))
        return cls(dist.get_rank(), dist.get_world_size(), words)

    @property
    def several(self) -> bool:
        """Whether there is more than this one."""
        return self.size > 1

    @property
    def first(self) -> bool:
        """Whether this one decides and writes."""
        return self.rank == FIRST

    # --- what is decided ----------------------------------------------------------------------------------------

    def agreed(self, decide: Callable[[], T]) -> T:
        """What the first worker finds out, on all of them.

        Args:
            decide: called on the first worker alone; its answer can be pickled.

        Raises:
            EndedError: on the others, where `decide` raised on the first one.
        """
        if not self.several:
            return decide()
        if not self.first:
            said, answer = self._heard()
            if not said:
                raise EndedError("the first worker ended the attempt")
            found: T = answer
            return found
        try:
            found = decide()
        except Exception:
            self._say((False, None))
            raise
        self._say((True, found))
        return found

    def _say(self, what: Any) -> None:
        with connected():
            torch.distributed.broadcast_object_list([what], FIRST, group=self.words)

    def _heard(self) -> Any:
        heard: list[Any] = [None]
        with connected():
            torch.distributed.broadcast_object_list(heard, FIRST, group=self.words)
        return heard[0]

    def sent(self, tensors: Mapping[str, Tensor] | None) -> dict[str, Tensor]:
        """The first worker's tensors, on the CPU of each.

        Args:
            tensors: of the first worker, on its CPU; whatever the others give is not looked at.
        """
        if not self.several:
            return dict(tensors or {})
        own = dict(tensors or {})
        described = self.agreed(lambda: [(name, tuple(one.shape), one.dtype) for name, one in own.items()])
        if not self.first:
            own = {name: torch.empty(shape, dtype=dtype) for name, shape, dtype in described}
        for tensor in own.values():
            self._from_first(tensor)
        return own

    def _from_first(self, tensor: Tensor) -> None:
        """Overwrite a tensor with that of the first worker, bit for bit."""
        if tensor.numel() == 0:
            return
        with connected(), torch.no_grad():
            plain = tensor.detach().contiguous()
            # Bytes: not every type of numbers travels by every backend.
            flat = plain.reshape(-1).view(torch.uint8)
            torch.distributed.broadcast(flat, FIRST, group=self.words if plain.device.type == "cpu" else None)
            if not self.first and plain.data_ptr() != tensor.data_ptr():
                tensor.copy_(plain)

    def same(self, tensors: Sequence[Tensor]) -> None:
        """Make tensors of any shapes and devices equal to the first worker's, in place.

        What each worker computes by itself from the same numbers can differ in the last bit on a GPU. Nothing is moved
        where all bits are equal already.
        """
        if self.several and len(set(self._digests(digest_of_tensors(tensors)))) > 1:
            for tensor in tensors:
                self._from_first(tensor)

    def alike(self, digest: str, what: str) -> None:
        """See that all workers hold the same.

        Args:
            digest: of what this one holds.
            what: it is, in words.

        Raises:
            WorkersDifferError: on all workers, where one of them holds something else.
        """
        if not self.several:
            return
        found = self._digests(digest)
        if wrong := [rank for rank, other in enumerate(found) if other != found[FIRST]]:
            raise WorkersDifferError(f"workers {wrong} of {self.size} hold another {what} than worker {FIRST}")

    def _digests(self, own: str) -> list[Any]:
        found: list[Any] = [None] * self.size
        with connected():
            torch.distributed.all_gather_object(found, own, group=self.words)
        return found

    # --- what is passed over ------------------------------------------------------------------------------------

    def share(self, inputs: Any, labels: Any) -> tuple[Any, Any, float]:
        """This worker's examples of a batch, and their part of it.

        The loss of a batch is the mean over its examples: the sum over the workers of part · (mean over the share).

        Args:
            inputs: of the batch, in any structure of tensors [B, …].
            labels: the same.

        Returns:
            The examples, as torch.tensor_split divides them: the first workers have one more; and their part of the
            batch, 0 to 1. Of fewer examples than workers each has all, and one of `size` equal parts.
        """
        if not self.several:
            return inputs, labels, 1.0
        count = examples_in(inputs)
        if count < self.size:
            return inputs, labels, 1.0 / self.size
        each, more = divmod(count, self.size)
        first, last = (rank * each + min(rank, more) for rank in (self.rank, self.rank + 1))
        own = slice(first, last)
        return some_examples(inputs, own), some_examples(labels, own), (last - first) / count

    def total(self, tensors: Sequence[Tensor]) -> None:
        """Sum tensors of equal shapes over the workers, in place, so that each has the same bits."""
        if not self.several:
            return
        kinds: dict[tuple[torch.dtype, torch.device], list[Tensor]] = {}
        for tensor in tensors:
            kinds.setdefault((tensor.dtype, tensor.device), []).append(tensor)
        with connected(), torch.no_grad():
            for alike in kinds.values():
                flat = torch.cat([tensor.reshape(-1) for tensor in alike])
                torch.distributed.all_reduce(flat)
                parts = torch.split(flat, [tensor.numel() for tensor in alike])
                for tensor, part in zip(alike, parts, strict=True):
                    tensor.copy_(part.reshape(tensor.shape))

    def sums(self, numbers: Sequence[float]) -> list[float]:
        """The sums of numbers over the workers, in float64."""
        if not self.several:
            return list(numbers)
        found = torch.tensor(numbers, dtype=torch.float64)
        with connected():
            torch.distributed.all_reduce(found, group=self.words)
        return [float(one) for one in found]

    def of_parts(self, examples: int, batch: int) -> Workers:
        """The workers that share the batches of a split: all if there are enough batches for each, else this one alone.

        Args:
            examples: in the split; 0 where that is not known.
            batch: examples at a time.
        """
        return self if self.several and -(-examples // batch) >= self.size else ALONE

    def dealt(self, parts: Iterable[T], in_step: bool = False) -> Iterator[tuple[T, bool]]:
        """This worker's batches of a split, and whether each counts.

        Args:
            parts: the batches of the split, of which each worker gets every `size`-th.
            in_step: whether all workers make as many passes: those that would have one less than others repeat one,
                which does not count. A sharded network asks for that, because its layers are gathered by all of them.
        """
        last: list[T] = []
        count = 0
        for number, part in enumerate(parts):
            count = number + 1
            last = [part]
            if number % self.size == self.rank:
                yield part, True
        left_over = count % self.size
        if in_step and left_over and self.rank >= left_over:
            yield last[0], False


ALONE = Workers()


@dataclass
class Word:
    """Whether the first worker wants something, said after one step and heard after the next: nobody waits for it."""

    workers: Workers
    _said: Tensor | None = None
    _under_way: Any = None

    def passed_on(self, wanted: bool) -> bool:
        """Say it of this step, and hear what was said of the one before."""
        heard = self.heard()
        self._said = torch.tensor([int(wanted)])
        with connected():
            self._under_way = torch.distributed.broadcast(self._said, FIRST, group=self.workers.words, async_op=True)
        return heard

    def heard(self) -> bool:
        """What was said last; False where nothing was."""
        if self._said is None:
            return False
        with connected():
            self._under_way.wait()
        found, self._said = bool(self._said), None
        return found


def digest_of_tensors(tensors: Sequence[Tensor]) -> str:
    """The sha256 of the bytes of tensors, in their order."""
    sha = hashlib.sha256()
    for tensor in tensors:
        if tensor.numel():
            sha.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return sha.hexdigest()
