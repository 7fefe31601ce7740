"""Sums up a metric over the batches of a split."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from prune_search.recipe.problems import Problem, UserError
from prune_search.tasks.shapes import IGNORED, class_dimension

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from prune_search.tasks.workers import Workers
else:
    from prune_search.lazy import torch


@dataclass(frozen=True, eq=False)
class Seen:
    """One batch, after the network has seen it.

    Attributes:
        outputs: what the network returned.
        batch: as the loader made it.
        target: of it; None where it has none.
        count: of its examples.
        loss: the mean of it, as the training takes it.
    """

    outputs: Any
    batch: Any
    target: Any
    count: int
    loss: float

    @property
    def scores(self) -> Tensor:
        """The outputs that count, in 32 bits at least."""
        from prune_search.tasks.outputs import logits_of

        found = logits_of(self.outputs)
        return found.float() if found.is_floating_point() and found.element_size() < 4 else found


class Tally(Protocol):
    """Sums a metric up over batches.

    One that has a method `shared(workers)` can sum up the batches of several workers: it is called once, on each of
    them, after the last batch. Every worker looks at all batches for one that has none.
    """

    def update(self, seen: Seen) -> None:
        """Take a batch into account."""

    def value(self) -> float:
        """The metric of all batches."""


@dataclass
class Mean:
    """The mean over the examples of a number that each batch has.

    Attributes:
        of: from a batch to (sum, count).
        after: what becomes of the mean.
    """

    of: Callable[[Seen], tuple[float, float]]
    after: Callable[[float], float] = float
    total: float = 0.0
    count: float = 0.0

    def update(self, seen: Seen) -> None:
        """Take a batch into account."""
        total, count = self.of(seen)
        self.total += total
        self.count += count

    def shared(self, workers: Workers) -> None:
        """Take what the others have seen into account."""
        self.total, self.count = workers.sums([self.total, self.count])

    def value(self) -> float:
        """The mean; NaN where nothing counts."""
        return self.after(self.total / self.count) if self.count else float("nan")


@dataclass
class FromLibrary:
    """A metric of torchmetrics, made when the first batch shows what it is given.

    Attributes:
        make: from the first batch's scores and targets to the metric.
        prepare: from scores and targets to what it is given.
    """

    make: Callable[[Tensor, Tensor], Any]
    prepare: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]] = lambda scores, targets: (scores, targets)
    metric: Any = None

    def update(self, seen: Seen) -> None:
        """Take a batch into account."""
        scores, targets = self.prepare(seen.scores, seen.target)
        if self.metric is None:
            self.metric = self.make(scores, targets).to(scores.device)
            if hasattr(self.metric, "sync_on_compute"):
                # Where there are several workers, each has seen all batches.
                self.metric.sync_on_compute = False
        self.metric.update(scores, targets)

    def value(self) -> float:
        """The metric of all batches."""
        found = self.metric.compute()
        if isinstance(found, torch.Tensor) and found.numel() == 1:
            return float(found)
        if isinstance(found, int | float):
            return float(found)
        raise TypeError(f"{type(self.metric).__name__} gives {_said(found)}, and one number is needed")


def can_share(tallies: Iterable[Tally]) -> bool:
    """Whether the batches of several workers can be summed up."""
    return all(hasattr(tally, "shared") for tally in tallies)


def _said(found: Any) -> str:
    if isinstance(found, torch.Tensor):
        return f"a tensor {list(found.shape)}"
    return f"a {type(found).__name__} {list(shape) if (shape := getattr(found, 'shape', ())) else ''}".rstrip()


def users_function(function: Callable[..., Any]) -> Mean:
    """The mean over the examples of what f(outputs, batch) returns."""

    def of(seen: Seen) -> tuple[float, float]:
        found = function(seen.outputs, seen.batch)
        # Numbers of numpy have shapes too.
        shape = getattr(found, "shape", () if isinstance(found, int | float) else None)
        if isinstance(found, bool) or shape is None:
            raise TypeError(f"it returned a {type(found).__name__}, and one number is needed")
        if math.prod(shape) != 1:
            raise TypeError(f"it returned {_said(found)}, and one number is needed")
        return float(found.item() if hasattr(found, "item") else found) * seen.count, float(seen.count)

    return Mean(of)


def torchmetrics() -> Any:
    """The package, imported when a metric of it is first needed: that takes seconds.

    Raises:
        UserError: it is not installed.
    """
    try:
        import torchmetrics as found
    except ImportError as error:
        text = f"this metric needs torchmetrics, which cannot be imported: {error}; pip install torchmetrics"
        raise UserError([Problem("Task.metrics", text)]) from error
    return found


def classified(scores: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Scores [N, C] and classes [N]: places of pictures and sequences are examples, ignored ones are left out.

    Of targets that are chances of each class, the most likely one counts.
    """
    if targets.is_floating_point() and targets.shape == scores.shape and scores.dim() > 1:
        targets = targets.argmax(dim=1)
    if scores.dim() > 2:
        scores = scores.movedim(class_dimension(scores, targets), -1).flatten(0, -2)
        targets = targets.flatten()
    kept = targets != IGNORED
    return (scores, targets) if bool(kept.all()) else (scores[kept], targets[kept])


def shifted(scores: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Scores [B, T, V] and tokens [B, T], of which each is predicted from those before it, as `classified`."""
    return classified(scores[:, :-1], targets[:, 1:])
