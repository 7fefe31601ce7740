"""Examples of a stream, which has no order but its own: its state is stored with every state of the training."""

from __future__ import annotations

import copy
import io
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import count as counting
from typing import Any

import torch
from torch import Tensor

from prune_search.recipe.problems import Problem, UserError
from prune_search.tasks.examples import KEY, Pair, Usage, drawing, seed_all
from prune_search.tasks.raised import as_user_error
from prune_search.tasks.request import Request
from prune_search.tasks.structures import mapped, some_examples


@dataclass(frozen=True, eq=False)
class Streamed:
    """A stream of examples, or of batches where it makes them itself.

    Attributes:
        dataset: an iterable with state_dict and load_state_dict; its copies begin anew.
        collate: makes a batch of a list of examples; None: the stream yields batches.
        usage: of batches.
        length: examples in an epoch, as ``len`` says; 0: unknown.
        device: where batches are put.
    """

    dataset: Any
    collate: Callable[[list[Any]], Any] | None
    usage: Usage = field(default_factory=Usage)
    length: int = 0
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    def __len__(self) -> int:
        return self.length

    def to(self, device: torch.device | str) -> Streamed:
        """The same stream, batches of which are put on a device."""
        return replace(self, device=torch.device(device))

    def used(self, usage: Usage) -> Streamed:
        """The same examples, whose batches are used otherwise."""
        return replace(self, usage=usage)

    def reader(self, request: Callable[[int], Request], batch: int, ahead: bool) -> _StreamReader:
        """Batches in the stream's order; another number than the next one is reached from the stream's begin."""
        return _StreamReader(self, batch, request)

    def parts(self, batch: int) -> Iterator[Any]:
        """All batches of one pass."""
        batches = _Position(copy.deepcopy(self.dataset), self.collate, batch).once()
        for number in counting():
            # What is drawn while it is read is the same each time.
            with drawing():
                seed_all(number)
                with as_user_error(f"batch {number} of the stream cannot be read:", KEY):
                    found = next(batches, None)
            if found is None:
                return
            yield self.put(found)

    def head(self, count: int) -> Any:
        """A batch of the first examples."""
        position = _Position(copy.deepcopy(self.dataset), self.collate, count)
        with drawing():
            seed_all(0)
            with as_user_error("the stream cannot be read:", KEY):
                found = next(position.once(), None)
        if found is None:
            raise UserError([Problem(KEY, "the stream has no examples")])
        return some_examples(self.put(found), slice(count))

    def first(self, count: int) -> Any:
        """The inputs of the first examples."""
        return self.usage.rules.inputs(self.head(count))

    def put(self, batch: Any) -> Any:
        """A batch on the device."""
        return mapped(batch, lambda tensor: tensor.to(self.device, non_blocking=True))


class _Position:
    """A place in a stream."""

    def __init__(self, dataset: Any, collate: Callable[[list[Any]], Any] | None, batch: int) -> None:
        self._dataset, self._collate, self._batch = dataset, collate, batch
        self._items: Iterator[Any] | None = None
        self._passes = 0

    def once(self) -> Iterator[Any]:
        """The batches of one pass; the last can be smaller."""
        items = iter(self._dataset)
        while True:
            found = self._some(items)
            if not found:
                return
            yield found[0] if self._collate is None else self._collate(found)

    def _some(self, items: Iterator[Any]) -> list[Any]:
        wanted = 1 if self._collate is None else self._batch
        return [item for _, item in zip(range(wanted), items, strict=False)]

    def next(self) -> Any:
        """The next batch; after the last example the stream begins anew, and examples that fill no batch are left."""
        for _ in range(2):
            if self._items is None:
                if hasattr(self._dataset, "set_epoch"):
                    self._dataset.set_epoch(self._passes)
                self._items = iter(self._dataset)
            found = self._some(self._items)
            if self._collate is None and found:
                return found[0]
            if self._collate is not None and len(found) == self._batch:
                return self._collate(found)
            self._items = None
            self._passes += 1
        raise UserError([Problem(KEY, f"the stream has fewer examples than a batch of {self._batch}")])

    def state(self) -> Mapping[str, Any]:
        """Where it is, as plain data and tensors."""
        return {"stream": self._dataset.state_dict(), "passes": self._passes, "begun": self._items is not None}

    def load(self, state: Mapping[str, Any]) -> None:
        """Go on from a place."""
        self._passes = int(state["passes"])
        if hasattr(self._dataset, "set_epoch"):
            self._dataset.set_epoch(self._passes)
        self._items = None
        if state["begun"]:
            self._dataset.load_state_dict(state["stream"])
            self._items = iter(self._dataset)


class _StreamReader:
    """Batches of a stream by number.

    Attributes:
        waited_s: for so long whoever asked has waited.
    """

    def __init__(self, split: Streamed, batch: int, request: Callable[[int], Request]) -> None:
        self._split, self._batch, self._request = split, batch, request
        self._begin()
        self.waited_s = 0.0

    def _begin(self) -> None:
        self._position = _Position(copy.deepcopy(self._split.dataset), self._split.collate, self._batch)
        self._next = 0

    def __call__(self, step: int) -> Pair:
        begun = time.perf_counter()
        if step < self._next:
            self._begin()
        batch = None
        with drawing():
            while self._next <= step:
                seed_all(self._request(self._next).seed(), self._next)
                with as_user_error(f"batch {self._next} of the stream cannot be read:", KEY):
                    batch = self._position.next()
                self._next += 1
        self.waited_s += time.perf_counter() - begun
        return self._split.usage.pair(self._split.put(batch))

    def state(self) -> dict[str, Tensor]:
        """Where the stream is, as named tensors."""
        content = io.BytesIO()
        torch.save({"next": self._next, **self._position.state()}, content)
        return {"place": torch.frombuffer(bytearray(content.getvalue()), dtype=torch.uint8).clone()}

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Go on where a state was taken."""
        stored = io.BytesIO(tensors["place"].cpu().numpy().tobytes())
        # Plain data and tensors, and nothing else is read.
        state = torch.load(stored, weights_only=True)  # noqa: TID251
        self._begin()
        self._position.load(state)
        self._next = int(state["next"])
