"""The examples of one split of a task, in memory or read one by one: what training and evaluation see of them."""

from __future__ import annotations

import hashlib
import random
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import count as counting
from typing import Any, Protocol

import numpy
import torch
from torch import Tensor

from prune_search.recipe.problems import Problem, UserError
from prune_search.tasks.batches import Rules, target_of
from prune_search.tasks.raised import as_user_error
from prune_search.tasks.request import Request
from prune_search.tasks.stored_split import between, lies_on, moved
from prune_search.tasks.structures import examples_in, mapped

Pair = tuple[Any, Any]
# From the number of a batch to its inputs and labels; one that reads ahead has `waited_s` and `close`, one of a stream
# has state and load.
Reader = Callable[[int], Pair]
# Batches that each worker process has read before they are needed.
AHEAD = 2
KEY = "task"


class Examples(Protocol):
    """The examples of one split."""

    def __len__(self) -> int:
        """How many there are."""

    @property
    def device(self) -> torch.device:
        """Where batches are put."""

    def to(self, device: torch.device | str) -> Examples:
        """The same examples, batches of which are put elsewhere."""

    def reader(self, request: Callable[[int], Request], batch: int, ahead: bool) -> Reader:
        """From the number of a batch to its inputs and labels."""

    def parts(self, batch: int) -> Iterator[Any]:
        """All examples in their order, as whole batches on the device; the last one can be smaller."""

    def head(self, count: int) -> Any:
        """A whole batch of the first examples, at most `count`, on the device."""

    def first(self, count: int) -> Any:
        """The inputs of the first examples, at most `count`."""


class TaskExamples(Examples, Protocol):
    """The examples of a split of a `Task`."""

    def used(self, usage: Usage) -> TaskExamples:
        """The same examples, whose batches are used otherwise."""

    def to(self, device: torch.device | str) -> TaskExamples:
        """The same examples, batches of which are put elsewhere."""


@dataclass(frozen=True)
class Usage:
    """How the batches of a task are used.

    Attributes:
        rules: what of a batch is what.
        whole: whether the loss is given the whole batch in place of its target.
    """

    rules: Rules = field(default_factory=Rules)
    whole: bool = False

    def pair(self, batch: Any) -> Pair:
        """Inputs, and what the loss is given beside the outputs."""
        return self.rules.inputs(batch), batch if self.whole else target_of(batch)


@dataclass(frozen=True, eq=False)
class Held:
    """Examples in memory or in mapped files: one batch of all of them, or a choice among it.

    Whatever is read from it lies in memory of its own, so that nothing can write to what a user gave.

    Attributes:
        content: tensors [M, …], in the structure of a batch, never written to; splits of one batch share it.
        usage: of batches.
        device: where they lie.
        rows: int64 [N], the examples' places in the content; None: all of it, in its order.
    """

    content: Any
    usage: Usage = field(default_factory=Usage)
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    rows: Tensor | None = None

    def __len__(self) -> int:
        return examples_in(self.content) if self.rows is None else len(self.rows)

    @property
    def target(self) -> Any:
        """The target of all examples; None where they have none."""
        rows = self.rows
        found = target_of(self.content)
        return found if rows is None else mapped(found, lambda tensor: tensor[rows])

    def to(self, device: torch.device | str) -> Held:
        """The same examples on a device, where nothing else goes."""
        there = torch.device(device)
        if lies_on(self.device, there):
            return self
        content = mapped(self.content, lambda tensor: moved(tensor, self.rows, there))
        return replace(self, content=content, device=there, rows=None)

    def used(self, usage: Usage) -> Held:
        """The same examples, whose batches are used otherwise."""
        return replace(self, usage=usage)

    def reader(self, request: Callable[[int], Request], batch: int, ahead: bool) -> Reader:
        """Batches are picked on the device."""

        def read(step: int) -> Pair:
            chosen = request(step).chosen
            rows = chosen if self.rows is None else self.rows[chosen]
            return self.usage.pair(mapped(self.content, lambda tensor: tensor[rows]))

        return read

    def parts(self, batch: int) -> Iterator[Any]:
        """All examples in their order."""
        for begin in range(0, len(self), batch):
            yield self._between(begin, begin + batch)

    def head(self, count: int) -> Any:
        """A batch of the first examples."""
        return self._between(0, count)

    def first(self, count: int) -> Any:
        """The inputs of the first examples."""
        return self.usage.rules.inputs(self.head(count))

    def chosen(self, indices: Tensor) -> Held:
        """Some of the examples; nothing is copied."""
        return replace(self, rows=indices if self.rows is None else self.rows[indices])

    def _between(self, begin: int, end: int) -> Any:
        def own(tensor: Tensor) -> Tensor:
            some = between(tensor, self.rows, begin, end)
            return some.clone() if self.rows is None else some

        return mapped(self.content, own)


@dataclass(frozen=True, eq=False)
class Listed:
    """Examples that are read one by one, by their index, in worker processes or in this one.

    Attributes:
        dataset: with ``__getitem__`` and ``__len__``.
        collate: makes a batch of a list of examples.
        usage: of batches.
        workers: processes that read; 0: this one.
        indices: those of the data set that belong to the split; None: all.
        device: where batches are put.
    """

    dataset: Any
    collate: Callable[[list[Any]], Any]
    usage: Usage = field(default_factory=Usage)
    workers: int = 0
    indices: Sequence[int] | None = None
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    def __len__(self) -> int:
        return len(self.dataset) if self.indices is None else len(self.indices)

    def to(self, device: torch.device | str) -> Listed:
        """The same examples, batches of which are put on a device."""
        return replace(self, device=torch.device(device))

    def at(self, index: int) -> int:
        """The index in the data set of one in the split."""
        return index if self.indices is None else int(self.indices[index])

    def used(self, usage: Usage) -> Listed:
        """The same examples, whose batches are used otherwise."""
        return replace(self, usage=usage)

    def reader(self, request: Callable[[int], Request], batch: int, ahead: bool) -> Reader:
        """Batches are read ahead by the workers, in the order of their numbers."""

        def asked(step: int) -> Asked:
            wanted = request(step)
            return Asked([self.at(int(index)) for index in wanted.chosen.tolist()], wanted.seed())

        return _Reading(self, asked, self.workers if ahead else 0)

    def parts(self, batch: int) -> Iterator[Any]:
        """All examples in their order; what is random in reading them is the same each time."""

        def asked(number: int) -> Asked | None:
            whole = range(number * batch, min((number + 1) * batch, len(self)))
            return Asked([self.at(index) for index in whole], 0) if whole else None

        # To start processes takes longer than to read a few batches.
        reading = _Reading(self, asked, self.workers if len(self) > 2 * batch else 0)
        for number in range(-(-len(self) // batch)):
            yield reading.whole(number)

    def head(self, count: int) -> Any:
        """A batch of the first examples."""
        indices = [self.at(index) for index in range(min(count, len(self)))]
        return self.put(ReadBatches(self.dataset, self.collate)[Asked(indices, 0)])

    def first(self, count: int) -> Any:
        """The inputs of the first examples."""
        return self.usage.rules.inputs(self.head(count))

    def chosen(self, indices: Tensor) -> Listed:
        """Some of the examples."""
        return replace(self, indices=[self.at(index) for index in indices.tolist()])

    def put(self, batch: Any) -> Any:
        """A batch on the device."""
        if self.device.type == "cpu":
            return batch
        return mapped(batch, lambda tensor: tensor.to(self.device, non_blocking=True))


@dataclass(frozen=True)
class Asked:
    """What a worker is asked for.

    Attributes:
        indices: of the data set.
        seed: of what is drawn while they are read.
    """

    indices: list[int]
    seed: int


@dataclass(frozen=True, eq=False)
class ReadBatches:
    """Reads batches; an example's draws depend on seed and index alone."""

    dataset: Any
    collate: Callable[[list[Any]], Any]

    def __getitem__(self, asked: Asked) -> Any:
        """A batch.

        Raises:
            UserError: an example cannot be read, or they cannot be made a batch.
        """
        with drawing():
            examples = []
            for index in asked.indices:
                seed_all(asked.seed, index)
                with as_user_error(f"example {index} cannot be read:", KEY):
                    examples.append(self.dataset[index])
            seed_all(asked.seed, -1, *asked.indices[:1])
            some = ", ".join(map(str, asked.indices[:3]))
            more = " …" if len(asked.indices) > 3 else ""
            with as_user_error(f"collate cannot make a batch of the examples {some}{more}:", KEY):
                return self.collate(examples)


@dataclass(frozen=True)
class Failed:
    """Stands for a batch that a worker process could not read: torch would hand on the error as a traceback's text.

    Attributes:
        problems: what is wrong.
    """

    problems: tuple[Problem, ...]


@dataclass(frozen=True, eq=False)
class WorkersBatches:
    """Reads batches in a worker process: a data set of batches for torch's loader."""

    read: ReadBatches

    def __getitem__(self, asked: Asked) -> Any:
        try:
            return self.read[asked]
        except UserError as error:
            return Failed(error.problems)


@contextmanager
def drawing() -> Iterator[None]:
    """What is drawn inside moves no draw outside."""
    states = torch.get_rng_state(), numpy.random.get_state(), random.getstate()
    try:
        yield
    finally:
        torch.set_rng_state(states[0])
        numpy.random.set_state(states[1])
        random.setstate(states[2])


def seed_all(seed: int, *words: int) -> None:
    """Seed what a user's code may draw from: the generators of torch, numpy and Python."""
    text = " ".join(map(str, (seed, *words)))
    number = int.from_bytes(hashlib.sha256(text.encode("ascii")).digest()[:8], "big") >> 1
    torch.default_generator.manual_seed(number)
    numpy.random.seed(number % 2**32)
    random.seed(number)


class _Reading:
    """Batches by number, read ahead where they are asked for in order.

    Attributes:
        waited_s: for so long whoever asked has waited.
    """

    def __init__(self, split: Listed, asked: Callable[[int], Asked | None], workers: int) -> None:
        self._split, self._asked, self._workers = split, asked, workers
        self._next: int | None = None
        self._batches: Iterator[Any] = iter(())
        self.waited_s = 0.0

    def __call__(self, step: int) -> Pair:
        return self._split.usage.pair(self.whole(step))

    def close(self) -> None:
        """End the worker processes; the next batch starts them anew."""
        self._next, self._batches = None, iter(())

    def whole(self, step: int) -> Any:
        """The batch of a number, on the device."""
        begun = time.perf_counter()
        if step != self._next:
            self._batches = self._from(step)
        batch = next(self._batches)
        if isinstance(batch, Failed):
            raise UserError(batch.problems)
        self._next = step + 1
        self.waited_s += time.perf_counter() - begun
        return self._split.put(batch)

    def _from(self, step: int) -> Iterator[Any]:
        from torch.utils.data import DataLoader

        read = ReadBatches(self._split.dataset, self._split.collate)
        requests = _requests(self._asked, step)
        if not self._workers:
            return (read[asked] for asked in requests)
        # Its own generator: the loader draws a number for its workers, which the training must not miss.
        loader: DataLoader[Any] = DataLoader(
            WorkersBatches(read),  # type: ignore[arg-type]
            batch_size=None,
            sampler=requests,
            num_workers=self._workers,
            prefetch_factor=AHEAD,
            pin_memory=self._split.device.type == "cuda",
            generator=torch.Generator().manual_seed(0),
        )
        return iter(loader)


def _requests(asked: Callable[[int], Asked | None], first: int) -> Iterator[Asked]:
    for number in counting(first):
        wanted = asked(number)
        if wanted is None:
            return
        yield wanted
