"""A data set for training: three splits, each one pair of tensors."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor, nn

from prune_search.tasks.digest import Part, ordered_parts_digest
from prune_search.tasks.outputs import logits_of
from prune_search.tasks.request import Request
from prune_search.tasks.stored_split import StoredSplit
from prune_search.tasks.workers import ALONE, Workers

# One for all trials: trials of different seeds are compared on the same split.
SPLIT_SEED = 20210306
# What the digest of data in memory has looked at.
ALL_BYTES = "all bytes"


def _cross_entropy(outputs: object, labels: Tensor, label_smoothing: float = 0.0) -> Tensor:
    return torch.nn.functional.cross_entropy(logits_of(outputs), labels, label_smoothing=label_smoothing)


@dataclass(frozen=True, eq=False)
class Split:
    """The examples of one split.

    Attributes:
        inputs: float32 [N, ...]; integers where whoever made the data gave such, until a network is known
            that takes them or not.
        labels: int64 [N], each in 0 … classes-1.
    """

    inputs: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def device(self) -> torch.device:
        """Where the examples lie."""
        return self.labels.device

    def reader(
        self, request: Callable[[int], Request], batch: int, ahead: bool
    ) -> Callable[[int], tuple[Tensor, Tensor]]:
        """From the number of a batch to its inputs and labels."""

        def read(step: int) -> tuple[Tensor, Tensor]:
            chosen = request(step).chosen
            # Half of what indexing takes.
            return self.inputs.index_select(0, chosen), self.labels.index_select(0, chosen)

        return read

    def parts(self, batch: int) -> Iterator[tuple[Tensor, Tensor]]:
        """All examples in their order; the last batch can be smaller."""
        yield from zip(torch.split(self.inputs, batch), torch.split(self.labels, batch), strict=True)

    def head(self, count: int) -> tuple[Tensor, Tensor]:
        """The first examples and their labels."""
        return self.inputs[:count], self.labels[:count]

    def first(self, count: int) -> Tensor:
        """The inputs of the first examples."""
        return self.inputs[:count]

    def to(self, device: torch.device | str) -> Split:
        """The same examples on `device`."""
        return Split(self.inputs.to(device), self.labels.to(device))

    @property
    def dtype(self) -> torch.dtype:
        """Of the inputs that are handed out."""
        return self.inputs.dtype

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one example."""
        return tuple(self.inputs.shape[1:])

    def as_type(self, dtype: torch.dtype) -> Split | StoredSplit:
        """The same examples, handed out as another type."""
        return self if dtype == self.dtype else StoredSplit(self.inputs, self.labels, dtype)

    def input_parts(self) -> Iterator[Tensor]:
        """All inputs in their order, a few megabytes at a time."""
        return StoredSplit(self.inputs, self.labels, self.dtype).input_parts()


AnySplit = Split | StoredSplit


@dataclass(frozen=True, eq=False)
class DataSet:
    """A classification data set, whole in memory.

    Attributes:
        name: how a recipe names it.
        train: what is trained on.
        validation: what a search sees.
        test: what only `run` and `export` report.
        classes: the number of classes.
        held_out: whether the validation examples were taken from the training set by us, so that whoever trained
            weights elsewhere has seen them.
    """

    name: str
    train: AnySplit
    validation: AnySplit
    test: AnySplit
    classes: int
    held_out: bool = False

    @property
    def splits(self) -> dict[str, AnySplit]:
        """The three splits by name."""
        return {"train": self.train, "validation": self.validation, "test": self.test}

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one example."""
        return self.train.shape

    @cached_property
    def digest(self) -> str:
        """The sha256 (hex) of all six arrays and so of the split; the data set's name does not count.

        Inputs are hashed as float32, because version 0.1 converted them all to it.
        """
        return ordered_parts_digest(self._digested())

    def _digested(self) -> Iterator[Part]:
        for name, split in self.splits.items():
            inputs = (part.to(torch.float32) for part in split.input_parts())
            yield f"{name}.inputs", torch.float32, (len(split), *split.shape), inputs
            yield f"{name}.labels", split.labels.dtype, tuple(split.labels.shape), (split.labels,)

    def split(self, name: str) -> AnySplit | None:
        """A split by its name."""
        return self.splits.get(name)

    @property
    def loss(self) -> Callable[[Tensor, Tensor], Tensor]:
        """What training minimises, of scores or of an object that carries them as logits."""
        return _cross_entropy

    def smoothed(self, share: float) -> Callable[[Tensor, Tensor], Tensor]:
        """The loss with a share of each target spread over all classes."""
        return functools.partial(_cross_entropy, label_smoothing=share)

    @property
    def target(self) -> str:
        """What the targets are, as the registered losses call it."""
        return "classes"

    @property
    def metrics(self) -> tuple[str, ...]:
        """What is measured on a split besides the loss; the first is shown where there is room for one."""
        return ("accuracy",)

    @property
    def best(self) -> dict[str, str]:
        """Which way each metric is better."""
        return {"accuracy": "maximize"}

    def class_labels(self) -> Tensor:
        """The class of every training example, int64 [N]."""
        return self.train.labels

    @property
    def metrics_digest(self) -> str:
        """What tells the metrics from others: nothing, since they are always the same."""
        return ""

    @property
    def looked_at(self) -> str:
        """What the digest has looked at."""
        return ALL_BYTES

    def scores(
        self,
        model: nn.Module,
        split: AnySplit,
        batch: int,
        autocast: Callable[[], AbstractContextManager[object]],
        workers: Workers = ALONE,
    ) -> dict[str, float]:
        """``accuracy`` and ``loss`` on a split; batches are of 1,000 whatever the training's."""
        from prune_search.tasks.metrics import evaluate

        return evaluate(model, split, autocast=autocast, workers=workers)

    def to(self, device: torch.device | str) -> DataSet:
        """The same data set on `device`."""
        return self._made_of(*(split.to(device) for split in self.splits.values()))

    @property
    def of_integers(self) -> bool:
        """Whether inputs are integers: token ids, or bytes of pictures."""
        return not self.train.dtype.is_floating_point

    def with_inputs(self, dtype: torch.dtype) -> DataSet:
        """The same data set with inputs of another type."""
        return self._made_of(*(split.as_type(dtype) for split in self.splits.values()))

    def _made_of(self, train: AnySplit, validation: AnySplit, test: AnySplit) -> DataSet:
        made = replace(self, train=train, validation=validation, test=test)
        if "digest" in vars(self):
            vars(made)["digest"] = self.digest  # the same numbers: no second pass over them
        return made


def split_indices(labels: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Which examples are held out: `count` of them, stratified, the same whatever the trial's seed.

    Every class gives its share of `count`, rounded down; the examples that are then still missing come from the
    classes with the largest remainders (the smaller label first). Which ones is drawn with a seed of its own.

    Args:
        labels: int64 [N].
        count: how many are held out, 0 … N.

    Returns:
        The indices of the rest and those held out, each ascending, int64.

    Raises:
        ValueError: `count` is not in 0 … N.

    Example:
        Of 6 examples of class 0 and 3 of class 1, `count` 3 holds out two of class 0 and one of class 1.
    """
    total = len(labels)
    if not 0 <= count <= total:
        raise ValueError(f"{count} of {total} examples cannot be held out")
    sizes = torch.bincount(labels)
    shares = [divmod(count * size, total) if total else (0, 0) for size in sizes.tolist()]
    quotas = [share for share, _ in shares]
    by_remainder = sorted(range(len(shares)), key=lambda label: (-shares[label][1], label))
    for label in by_remainder[: count - sum(quotas)]:
        quotas[label] += 1
    drawn = torch.randperm(total, generator=torch.Generator().manual_seed(SPLIT_SEED))
    held = torch.zeros(total, dtype=torch.bool)
    for label, quota in enumerate(quotas):
        held[drawn[labels[drawn] == label][:quota]] = True
    return torch.nonzero(~held).flatten(), torch.nonzero(held).flatten()


def split_off(inputs: Tensor, labels: Tensor, count: int) -> tuple[Split, Split]:
    """Hold out `count` examples (see `split_indices`).

    Args:
        inputs: float32 [N, ...].
        labels: int64 [N].
        count: how many are held out, 0 … N.

    Returns:
        The rest, and what is held out.
    """
    rest, held = split_indices(labels, count)
    return Split(inputs[rest], labels[rest]), Split(inputs[held], labels[held])
