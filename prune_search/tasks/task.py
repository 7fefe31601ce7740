"""`Task`: what is trained, on what data, by which loss, and how it is measured; for any network and any data."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

HELD_OUT = 0.1


@dataclass(frozen=True, eq=False)
class Task:
    """Anything that PyTorch trains.

    A batch is the output of `collate` for a list of examples. In a tuple or list, the last part is the target and the
    others are positional inputs. In a mapping, the network gets the keys that its forward names, and the target is
    under ``labels``, ``label``, ``target`` or ``targets``. Anything else is one input without a target. Types are kept.

    Attributes:
        model: makes the network, an `nn.Module`; called with those of shape, classes, root and example that it names.
            None: the recipe names another model.
        train: a map-style `torch.utils.data.Dataset`, a pair of arrays (inputs [N, …], targets [N, …]), or an
            `IterableDataset` with state_dict and load_state_dict.
        validation: the same, or the share of `train` that is held out, above 0 and below 1.
        test: the same, or None: then no test figure is shown.
        loss: a registered name, a mapping with the name and its options, or f(outputs, batch) to a scalar tensor;
            None: ``model`` where the outputs carry a loss, cross-entropy where targets are integers.
        metrics: name to a registered name, a factory of a `torchmetrics.Metric`, or f(outputs, batch) to a number,
            averaged over the examples; or a list of registered names, or a `torchmetrics.MetricCollection`. None: one
            that fits the loss. They are called ``val/NAME`` and ``test/NAME``; pictures and lists show the first one.
        forward: f(model, batch) to outputs, if the rules above do not fit.
        collate: makes a batch of a list of examples; None: torch's own.
        workers: processes that read examples; 0: the training process reads them itself, as it always reads
            streams. The batches are the same.
        evaluate_batch: examples at a time when the network is measured; None: the training batch.
        digest: stands for the data in keys, if the data cannot be hashed.
        classes: number of classes; None: taken from the targets.
    """

    model: Callable[..., Any] | None = None
    train: Any = None
    validation: Any = HELD_OUT
    test: Any = None
    loss: str | Mapping[str, Any] | Callable[..., Any] | None = None
    metrics: Mapping[str, Any] | Sequence[str] | None = None
    forward: Callable[..., Any] | None = None
    collate: Callable[..., Any] | None = None
    workers: int = 0
    evaluate_batch: int | None = None
    digest: str | None = None
    classes: int | None = None
    name: str = field(default="", kw_only=True)


@dataclass(frozen=True, eq=False)
class Whole:
    """A function that gives a task that is there already.

    Attributes:
        task: what it gives.
    """

    task: Task

    def __call__(self) -> Task:
        return self.task


# How a recipe names a task that is there already.
WHOLE = f"{Whole.__module__}:{Whole.__qualname__}"


def shown_name(task: Task, name: str) -> str:
    """What a task is called in messages; empty where nobody has named it.

    Args:
        task: whose own name comes first.
        name: of what made it, as a recipe has it.
    """
    return task.name or ("" if name == WHOLE else name)


def task_said(task: Task, name: str) -> str:
    """How a message about a task begins: the word task, and what it is called where somebody has named it."""
    return f"task {shown_name(task, name)}".rstrip()
