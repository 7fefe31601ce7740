"""What a trial trains on: the splits of a `Task`, its loss and its metrics."""

from __future__ import annotations

import functools
import logging
import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Protocol, runtime_checkable

import numpy
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, IterableDataset, TensorDataset, default_collate

from prune_search.recipe.problems import UserError, shown
from prune_search.tasks.batches import Rules, target_of
from prune_search.tasks.data import SPLIT_SEED, split_indices
from prune_search.tasks.examples import Held, Listed, TaskExamples, Usage
from prune_search.tasks.passes import evaluating
from prune_search.tasks.shapes import IGNORED
from prune_search.tasks.shards import is_sharded
from prune_search.tasks.stored_split import as_stored
from prune_search.tasks.streams import Streamed
from prune_search.tasks.structures import examples_in, tensors_in
from prune_search.tasks.tallies import Mean, Seen, Tally, can_share
from prune_search.tasks.task import Task, task_said
from prune_search.tasks.task_digest import code_digest, examples_digest
from prune_search.tasks.task_parts import loss_named, metrics_of, named_metrics
from prune_search.tasks.workers import ALONE, Workers

# A tuple of fewer parts holds inputs and targets, not examples.
MAX_COLUMNS = 10
_log = logging.getLogger("prune_search")


@dataclass(frozen=True, eq=False)
class TaskData:
    """A task whose data have been read; fitted to a network it has a loss and metrics.

    Attributes:
        name: how a recipe names it.
        task: as it was given.
        train: what is trained on.
        validation: what a search sees.
        test: what only ``run`` and ``export`` report; None: there is none.
        classes: how many; 0: there are none, or it is not known.
        digests: of each split by name, with what each has looked at; they are made when they are first asked for.
        held_out: whether the validation examples were taken from the training set by us.
        usage: how batches are used.
        loss: from (outputs, labels) to a scalar; None before a network is known.
        target: what targets are: ``classes``, ``chances``, ``numbers``, ``tokens``, or empty where there is none.
        metrics: name to what makes a tally.
        best: name to ``maximize`` or ``minimize``.
        told: split and metric of each that was said to be no number.
    """

    name: str
    task: Task
    train: TaskExamples
    validation: TaskExamples
    test: TaskExamples | None
    digests: Callable[[], Mapping[str, tuple[str, str]]]
    classes: int = 0
    held_out: bool = False
    usage: Usage = field(default_factory=Usage)
    loss: Callable[[Any, Any], Tensor] | None = None
    target: str = ""
    metrics: Mapping[str, Callable[[], Tally]] = field(default_factory=dict)
    best: Mapping[str, str] = field(default_factory=dict)
    told: set[tuple[str, str]] = field(default_factory=set)

    @property
    def splits(self) -> dict[str, TaskExamples]:
        """The splits by name."""
        found = {"train": self.train, "validation": self.validation}
        return found if self.test is None else {**found, "test": self.test}

    def split(self, name: str) -> TaskExamples | None:
        """A split by its name; None: there is none."""
        return self.splits.get(name)

    @cached_property
    def shape(self) -> tuple[int, ...]:
        """The shape of an example's input, where that is one tensor; else ()."""
        inputs = self.train.first(1)
        return tuple(inputs.shape[1:]) if isinstance(inputs, Tensor) else ()

    def class_labels(self) -> Tensor | None:
        """The class of every training example, int64 [N]; None where that needs all of them to be read."""
        return _labels(self.train)

    @property
    def of_integers(self) -> bool:
        """Whether the first input is of integers."""
        found = tensors_in(self.train.first(1))
        return bool(found) and not found[0].is_floating_point()

    @cached_property
    def digest(self) -> str:
        """The sha256 (hex) of the examples, and of the loss and functions that training uses."""
        task = self.task
        loss = (
            task.loss if isinstance(task.loss, str | None) or callable(task.loss) else repr(sorted(task.loss.items()))
        )
        functions = {"loss": loss, "forward": task.forward, "collate": task.collate}
        examples = {f"{name} examples": digest for name, (digest, _) in self.digests().items()}
        return code_digest({**functions, **examples})

    @cached_property
    def metrics_digest(self) -> str:
        """The sha256 (hex) of the metrics: what is measured anew where they change."""
        named = {name: made if callable(made) else repr(made) for name, made in named_metrics(self.task).items()}
        return code_digest({**named, "names": repr(sorted(self.metrics))})

    def smoothed(self, share: float) -> Callable[[Any, Any], Tensor] | None:
        """The loss with a share of each target spread over all classes; None where it is no cross-entropy."""
        loss = self.loss
        if not isinstance(loss, functools.partial) or "label_smoothing" not in loss.keywords:
            return None
        return functools.partial(loss.func, **{**loss.keywords, "label_smoothing": share})

    @property
    def looked_at(self) -> str:
        """What the digest has looked at."""
        return self.digests()["train"][1]

    def to(self, device: torch.device | str) -> TaskData:
        """The same data on a device."""
        return replace(self, **{name: split.to(device) for name, split in self.splits.items()})  # type: ignore[arg-type]

    def used(self, usage: Usage) -> TaskData:
        """The same data whose batches are used otherwise."""
        splits = {name: split.used(usage) for name, split in self.splits.items()}
        return replace(self, **splits, usage=usage)  # type: ignore[arg-type]

    def scores(
        self,
        model: nn.Module,
        split: TaskExamples,
        batch: int,
        autocast: Callable[[], AbstractContextManager[object]],
        workers: Workers = ALONE,
    ) -> dict[str, float]:
        """One pass over a split in evaluation mode, without gradients: ``loss`` and the metrics.

        Args:
            model: that takes the task's batches, on the device of the split.
            split: of the task.
            batch: examples at a time.
            autocast: makes the context of each forward pass.
            workers: that pass over the split together, where its metrics can be summed over them.
        """
        loss = Mean(lambda seen: (seen.loss * seen.count, float(seen.count)))
        tallies: dict[str, Tally] = {"loss": loss, **{name: make() for name, make in self.metrics.items()}}
        size = self.task.evaluate_batch or batch
        together = workers.of_parts(len(split), size) if can_share(tallies.values()) else ALONE
        with evaluating(model):
            for whole, counts in together.dealt(split.parts(size), is_sharded(model)):
                seen = self.seen(model, whole, autocast)
                for tally in tallies.values() if counts else ():
                    tally.update(seen)
        for tally in tallies.values():
            if together.several:
                tally.shared(together)  # type: ignore[attr-defined]
        found = {name: tally.value() for name, tally in tallies.items()}
        self._tell_odd(split, found)
        # The loss comes last: what is shown first is the task's own metric.
        return {**{name: value for name, value in found.items() if name != "loss"}, "loss": found["loss"]}

    def _tell_odd(self, split: TaskExamples, found: Mapping[str, float]) -> None:
        """Warn once of each metric that is NaN or infinite on a split; of the loss a trial tells it."""
        part = next((name for name, own in self.splits.items() if own is split), "")
        for name, value in found.items():
            if name != "loss" and not math.isfinite(value) and (part, name) not in self.told:
                self.told.add((part, name))
                told = f"metric {name} is {value} on the {part} examples, so that this network cannot be ranked by it"
                _log.warning("%s: %s", task_said(self.task, self.name), told)

    def seen(
        self, model: nn.Module, whole: Any, autocast: Callable[[], AbstractContextManager[object]] = nullcontext
    ) -> Seen:
        """What metrics see of a batch."""
        inputs, labels = self.usage.pair(whole)
        with autocast():
            outputs = model(inputs)
            loss = float("nan") if self.loss is None else float(self.loss(outputs, labels))
        return Seen(outputs, whole, self._counted(target_of(whole)), examples_in(inputs), loss)

    def _counted(self, target: Any) -> Any:
        """Targets, of which those that the loss ignores are what metrics ignore too."""
        ignored = getattr(self.loss, "keywords", {}).get("ignore_index", IGNORED)
        if ignored == IGNORED or not isinstance(target, Tensor):
            return target
        return target.where(target != ignored, IGNORED)


def read_task(name: str, task: Task) -> tuple[TaskData | None, list[str]]:
    """The splits of a task.

    Args:
        name: of its function.
        task: as it was given.

    Returns:
        The data, or None and everything that is wrong.
    """
    wrong = _wrong_settings(task)
    splits: dict[str, TaskExamples] = {}
    usage = Usage(Rules(task.forward))
    share = isinstance(task.validation, int | float) and not isinstance(task.validation, bool)
    for part, given in (("train", task.train), ("validation", task.validation), ("test", task.test)):
        if (part == "validation" and share) or (part == "test" and given is None):
            continue
        split = _examples(part, given, task, usage, wrong)
        if split is not None:
            splits[part] = split
    train = splits.get("train")
    if share and train is not None:
        held = _held_out(train, float(task.validation), wrong)
        if held is not None:
            splits["train"], splits["validation"] = held
    for part, split in splits.items():
        if not isinstance(split, Streamed) and len(split) == 0:
            wrong.append(f"{part} has no examples")
    if task.validation is None:
        wrong.append("validation is missing: a Dataset, or the share of train that is held out, such as 0.1")
    if wrong or "train" not in splits or "validation" not in splits:
        return None, wrong
    if wrong := _wrong_classes(task.classes, splits):
        return None, wrong
    classes = task.classes or _classes(splits["train"])
    train, validation, test = splits["train"], splits["validation"], splits.get("test")
    # Fitted to a network and on a device it is the same data, of which the digests are made once.
    digests = functools.cache(lambda: {part: examples_digest(split, task.digest) for part, split in splits.items()})
    return TaskData(name, task, train, validation, test, digests, classes, share, usage), []


def _wrong_settings(task: Task) -> list[str]:
    wrong = []
    for key in ("model", "forward", "collate"):
        if getattr(task, key) is not None and not callable(getattr(task, key)):
            wrong.append(f"{key} must be a function (got {shown(getattr(task, key))})")
    for key, least in (("workers", 0), ("evaluate_batch", 1), ("classes", 1)):
        value = getattr(task, key)
        if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < least):
            wrong.append(f"{key} must be a whole number of at least {least} (got {shown(value)})")
    if task.digest is not None and (not isinstance(task.digest, str) or not task.digest):
        wrong.append(f"digest must be a string (got {shown(task.digest)})")
    if task.train is None:
        wrong.append("train is missing: a Dataset, a pair of arrays, or a stream with state_dict and load_state_dict")
    for read in (lambda: loss_named(task.loss), lambda: metrics_of(task, "", 0)):
        try:
            read()
        except UserError as error:
            wrong += [
                problem.message if not problem.path else f"{problem.path}: {problem.message}"
                for problem in error.problems
            ]
    return wrong


def _examples(part: str, given: Any, task: Task, usage: Usage, wrong: list[str]) -> TaskExamples | None:
    """One split, of whatever form it was given in."""
    if given is None:
        return None
    collate, workers = task.collate or default_collate, task.workers if isinstance(task.workers, int) else 0
    if isinstance(given, DataLoader) and not hasattr(given, "load_state_dict"):
        collate = task.collate or given.collate_fn
        workers, given = workers or given.num_workers, given.dataset
    if isinstance(given, TensorDataset) and task.collate is None:
        given = tuple(given.tensors)
    if isinstance(given, tuple) and not _is_arrays(given) and any(isinstance(p, _Array) for p in given):
        # Columns of a table are arrays too.
        given = tuple(numpy.asarray(p) if isinstance(p, _Array) and not isinstance(p, Tensor) else p for p in given)
    if _is_arrays(given):
        try:
            content = as_tensors(given)
        except TypeError as error:
            wrong.append(f"{part}: one of its arrays cannot become a tensor: {error}")
            return None
        sizes = {len(tensor) if tensor.dim() else 0 for tensor in tensors_in(content)}
        if len(sizes) != 1:
            wrong.append(
                f"{part}: its arrays have {', '.join(map(str, sorted(sizes)))} examples, and must have equally many"
            )
            return None
        return Held(content, usage)
    if isinstance(given, IterableDataset) or (hasattr(given, "__iter__") and not hasattr(given, "__getitem__")):
        return _stream(part, given, task, usage, wrong)
    # Two lists are no data set of two examples, and the letters of a path no data set at all.
    columns = isinstance(given, tuple) and len(given) < MAX_COLUMNS and not any(_is_arrays(part) for part in given)
    if columns:
        parts = ", ".join(type(part).__name__ for part in given)
        wrong.append(f"{part}: a tuple must hold arrays or tensors (got {parts}): convert its parts with torch.tensor")
        return None
    if hasattr(given, "__getitem__") and hasattr(given, "__len__") and not isinstance(given, str | bytes | nn.Module):
        return Listed(given, collate, usage, workers)
    forms = "a Dataset, a pair of arrays, or a stream with state_dict and load_state_dict"
    more = " or a share above 0 and below 1" if part == "validation" else ""
    wrong.append(f"{part} must be {forms}{more} (got a value of type {type(given).__name__})")
    return None


def _wrong_classes(classes: int | None, splits: Mapping[str, TaskExamples]) -> list[str]:
    """Targets that are no class of as many as a task says it has."""
    found: list[str] = []
    for part, split in splits.items():
        labels = _labels(split) if classes is not None and classes > 1 else None
        if labels is not None and classes is not None and bool((labels >= classes).any()):
            place = int((labels >= classes).nonzero()[0])
            found.append(f"{part}: the target of example {place} is {int(labels[place])}, and classes is {classes}")
    return found


def _stream(part: str, given: Any, task: Task, usage: Usage, wrong: list[str]) -> Streamed | None:
    if part == "train" and not (hasattr(given, "state_dict") and hasattr(given, "load_state_dict")):
        wrong.append(
            f"{part}: a stream of type {type(given).__name__} has no state_dict and load_state_dict, so a killed "
            "trial could not continue where it was: add both, or use torchdata's StatefulDataLoader, a Hugging Face "
            "streaming data set, or a Dataset with __getitem__ and __len__"
        )
        return None
    batches = not isinstance(given, IterableDataset) and hasattr(given, "batch_size")
    try:
        length = len(given)
    except TypeError:
        length = 0
    size = getattr(given, "batch_size", None) if batches else 1
    collate = None if batches else (task.collate or default_collate)
    return Streamed(given, collate, usage, length * (size or 1))


@runtime_checkable
class _Array(Protocol):
    """Whatever numpy can make an array of: its own, tensors, columns of pandas."""

    def __array__(self, dtype: Any = None) -> Any:
        """Its numbers."""


def _is_arrays(given: Any) -> bool:
    """Whether it is a tuple, a short list or a mapping of arrays."""
    if isinstance(given, tuple) or (isinstance(given, list) and len(given) == 2):
        return len(given) > 0 and all(isinstance(part, Tensor | numpy.ndarray) or _is_arrays(part) for part in given)
    return (
        isinstance(given, Mapping)
        and len(given) > 0
        and all(isinstance(p, Tensor | numpy.ndarray) for p in given.values())
    )


def as_tensors(given: Any) -> Any:
    """Arrays as tensors on the CPU, of the same memory where torch can have it; float64 of numpy becomes float32.

    Raises:
        TypeError: torch has no such numbers.
    """
    if isinstance(given, Mapping):
        return {key: as_tensors(part) for key, part in given.items()}
    if isinstance(given, tuple | list):
        return tuple(as_tensors(part) for part in given)
    if isinstance(given, Tensor):
        return given.detach().cpu()
    array = given.astype(numpy.float32) if given.dtype == numpy.float64 else given
    if (stored := as_stored(array)) is not None:
        return stored
    return torch.from_numpy(numpy.array(array, dtype=array.dtype.newbyteorder("="), order="C"))


def _held_out(train: TaskExamples, share: float, wrong: list[str]) -> tuple[TaskExamples, TaskExamples] | None:
    """The rest and what is held out: stratified by class where the targets say it, the same for all trials."""
    if not 0 < share < 1:
        wrong.append(f"validation must be a Dataset, or a share above 0 and below 1 (got {share:g})")
        return None
    if isinstance(train, Streamed):
        wrong.append("validation: no share of a stream can be held out: give a separate data set")
        return None
    count = len(train)
    if count < 2:
        wrong.append(f"train has {count} example{'' if count == 1 else 's'}, so none can be held out for validation")
        return None
    wanted = min(count - 1, max(1, round(share * count)))
    labels = _labels(train)
    if labels is None:
        order = torch.randperm(count, generator=torch.Generator().manual_seed(SPLIT_SEED))
        rest, held = order[wanted:].sort().values, order[:wanted].sort().values
    else:
        rest, held = split_indices(labels, wanted)
    return train.chosen(rest), train.chosen(held)  # type: ignore[attr-defined]


def _labels(split: TaskExamples) -> Tensor | None:
    """The classes of all examples, int64 [N], where they can be had without reading every example."""
    if isinstance(split, Held):
        found = split.target
    else:
        dataset = getattr(split, "dataset", None)
        found = next(
            (v for name in ("targets", "labels", "_labels") if (v := getattr(dataset, name, None)) is not None), None
        )
        try:
            found = None if found is None else torch.as_tensor(found)
        except (TypeError, ValueError, RuntimeError):
            return None
        indices = getattr(split, "indices", None)
        if found is not None and indices is not None and found.dim() == 1 and len(found) == len(dataset or ()):
            found = found[torch.as_tensor(list(indices), dtype=torch.int64)]
    if not isinstance(found, Tensor) or found.dim() != 1 or len(found) != len(split):
        return None
    if found.is_floating_point() or found.dtype == torch.bool or bool((found < 0).any()):
        return None
    return found.long().cpu()


def _classes(split: TaskExamples) -> int:
    """How many classes there are, as far as it shows without reading the data."""
    if isinstance(split, Held):
        target = split.target
        whole = isinstance(target, Tensor) and not target.is_floating_point() and target.dtype != torch.bool
        if whole and target.numel():
            return max(0, int(target.max()) + 1)
        return 0
    dataset = getattr(split, "dataset", None)
    names = getattr(dataset, "classes", None)
    if isinstance(names, Sequence) and not isinstance(names, str) and len(names):
        return len(names)
    labels = _labels(split)
    return int(labels.max()) + 1 if labels is not None and len(labels) else 0
