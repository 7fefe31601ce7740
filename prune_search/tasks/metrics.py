"""The axis of metrics, and the pass over a split that most of them use."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from prune_search.recipe.axes import METRICS
from prune_search.recipe.facts import Metric

if TYPE_CHECKING:
    import torch
    from torch import nn

    from prune_search.tasks.data import AnySplit, DataSet
    from prune_search.tasks.task_data import TaskData
    from prune_search.tasks.workers import Workers
else:
    from prune_search.lazy import torch


Figures = Mapping[str, float]
# From what is measured, as plain data, and how, to the figures: stored ones where there are some.
Take = Callable[[Mapping[str, object], Callable[[], Figures]], Figures]


def _taken_now(what: Mapping[str, object], measure: Callable[[], Figures]) -> Figures:
    return measure()


@dataclass(frozen=True)
class Measured:
    """What a metric is computed from.

    Attributes:
        scores: split ("train", "validation", "test") to what `evaluate` returned on it.
        kept: layer to the number of weights that are not pruned; all convolution and linear weights of the network.
        total: layer to its number of weights; the same layers.
        steps_trained: optimizer steps taken for this network, anywhere (criteria and transforms included).
        load: gives the network itself, with its weights and mask, for metrics that run it (see `model`).
        data: the data set, likewise.
        operations: what training took: forward_dense, backward_dense, forward_sparse and backward_sparse.
        masks: of the weights, for metrics that look at places.
        take: a measurement of this network that takes time.
        parameters: how many the network has, those that are never pruned among them; 0: see the network itself.
        fused: parameters that it has no more because another layer stands for theirs.
    """

    scores: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    kept: Mapping[str, int] = field(default_factory=dict)
    total: Mapping[str, int] = field(default_factory=dict)
    steps_trained: int = 0
    load: Callable[[], nn.Module] | None = None
    data: DataSet | TaskData | None = None
    operations: Mapping[str, float] = field(default_factory=dict)
    masks: Mapping[str, torch.Tensor] = field(default_factory=dict)
    take: Take = _taken_now
    parameters: int = 0
    fused: Collection[str] = ()

    @property
    def model(self) -> nn.Module | None:
        """The network itself, loaded when it is first looked at."""
        return self.load() if self.load is not None else None


def at_the_end(split: str, asked: Collection[str] = ()) -> list[str]:
    """The metrics that are taken of a finished network.

    Args:
        split: of the data; on ``validation`` those that need no data are among them.
        asked: those that are taken besides the ones that always are.
    """
    wanted = (split, "") if split == "validation" else (split,)
    facts = {name: entry.facts for name, entry in METRICS.items()}
    return [name for name, own in facts.items() if own.split in wanted and (own.always or name in asked)]


def in_training(asked: Collection[str] = ()) -> list[str]:
    """The metrics that are taken in the middle of a retraining.

    Those of validation data that always are, and what is asked for; what is known without data stays out else, so that
    a search stores little.

    Args:
        asked: what a search names in its objectives and constraints; what cannot be taken there is left out.
    """
    facts = {name: entry.facts for name, entry in METRICS.items() if entry.facts.in_training}
    return [n for n, own in facts.items() if n in asked or (own.always and own.split == "validation")]


def figures(measured: Measured, names: Iterable[str]) -> dict[str, float]:
    """Some registered metrics of what was measured."""
    return {name: METRICS[name].make(measured) for name in names}


def evaluate(
    model: nn.Module,
    split: AnySplit,
    batch: int = 1000,
    autocast: Callable[[], AbstractContextManager[object]] | None = None,
    workers: Workers | None = None,
) -> dict[str, float]:
    """One pass over a split in evaluation mode, without gradients.

    Every module's mode is restored, and no random number is drawn (unless a layer draws some when evaluated).

    Args:
        model: maps inputs [N, ...] to scores [N, classes], or to what carries them as logits; on the split's device.
        split: at least one example.
        batch: examples at a time; changes the figures by rounding only.
        autocast: makes the context of each forward pass; the loss is taken in float32 at least.
        workers: that pass over the split together; None: this process alone.

    Returns:
        "accuracy" in 0 … 1 (of equal highest scores, the first class counts) and "loss", the mean cross-entropy in
        nats; NaN where a score is.
    """
    from prune_search.tasks.outputs import logits_of
    from prune_search.tasks.passes import evaluating
    from prune_search.tasks.shards import is_sharded
    from prune_search.tasks.workers import ALONE

    correct, loss = 0.0, 0.0
    together = (workers or ALONE).of_parts(len(split), batch)
    with evaluating(model):
        for (inputs, labels), counts in together.dealt(split.parts(batch), is_sharded(model)):
            with (autocast or nullcontext)():
                scores = logits_of(model(inputs))
            if not counts:
                continue
            scores = scores.to(torch.promote_types(scores.dtype, torch.float32))
            correct += int((scores.argmax(dim=1) == labels).sum())
            loss += float(torch.nn.functional.cross_entropy(scores, labels, reduction="sum"))
    correct, loss = together.sums([correct, loss])
    return {"accuracy": correct / len(split.labels), "loss": loss / len(split.labels)}


@METRICS.register(
    "val/accuracy",
    summary="share of the validation examples that are classified correctly, 0…1",
    source="common practice",
    facts=Metric(score="accuracy", split="validation", simulated=True),
)
def val_accuracy(measured: Measured) -> float:
    """Validation accuracy, 0 … 1."""
    return measured.scores["validation"]["accuracy"]


@METRICS.register(
    "val/loss",
    summary="mean cross-entropy on the validation examples, in nats",
    source="common practice",
    facts=Metric(score="loss", best="minimize", split="validation", simulated=True),
)
def val_loss(measured: Measured) -> float:
    """Validation loss."""
    return measured.scores["validation"]["loss"]


@METRICS.register(
    "test/accuracy",
    summary="share of the test examples that are classified correctly, 0…1",
    source="common practice",
    facts=Metric(score="accuracy", split="test"),
)
def test_accuracy(measured: Measured) -> float:
    """Test accuracy, 0 … 1."""
    return measured.scores["test"]["accuracy"]


@METRICS.register(
    "test/loss",
    summary="mean cross-entropy on the test examples, in nats",
    source="common practice",
    facts=Metric(score="loss", best="minimize", split="test"),
)
def test_loss(measured: Measured) -> float:
    """Test loss."""
    return measured.scores["test"]["loss"]


@METRICS.register(
    "train/accuracy",
    summary="share of the training examples, not augmented, that are classified correctly, 0…1",
    source="common practice",
    facts=Metric(score="accuracy", split="train", always=False),
)
def train_accuracy(measured: Measured) -> float:
    """Training accuracy of the finished network, 0 … 1."""
    return measured.scores["train"]["accuracy"]


@METRICS.register(
    "train/loss",
    summary="mean cross-entropy on the training examples, not augmented, in nats; or a task's own loss on them",
    source="common practice",
    facts=Metric(score="loss", best="minimize", split="train", always=False),
)
def train_loss(measured: Measured) -> float:
    """Training loss of the finished network, without penalties."""
    return measured.scores["train"]["loss"]


@METRICS.register(
    "sparsity",
    summary="1 - kept/total over all convolution and linear weights, 0…1",
    source="Blalock et al. 2020, What is the State of Neural Network Pruning?, 2003.03033",
    facts=Metric(simulated=True, mid_training=True),
)
def sparsity(measured: Measured) -> float:
    """The reported sparsity: excluded layers count as kept, biases and normalisation do not count at all.

    Example:
        Layers of 30 and 10 weights of which 5 and 5 are kept: 1 - 10/40 = 0.75.
    """
    total = sum(measured.total.values())
    return 1.0 - sum(measured.kept.values()) / total if total else 0.0


@METRICS.register(
    "collapsed",
    summary="number of layers with no weights left",
    source="layer collapse: Tanaka et al. 2020, 2006.05467",
    facts=Metric(best="minimize", simulated=True, mid_training=True),
)
def collapsed(measured: Measured) -> float:
    """How many layers have no weight left."""
    return float(sum(kept == 0 and name not in measured.fused for name, kept in measured.kept.items()))


@METRICS.register(
    "steps_trained",
    summary="optimizer steps needed to train this network, shared ones included",
    source="this project",
    facts=Metric(best="minimize", simulated=True, mid_training=True),
)
def steps_trained(measured: Measured) -> float:
    """Every step trained, those of criteria and transforms included."""
    return float(measured.steps_trained)


def _training_operations(name: str) -> Callable[[Measured], float]:
    def operations(measured: Measured) -> float:
        """Operations of all training steps: convolutions and linear layers, 2 per weight and place of the output."""
        return measured.operations.get(name, 0.0)

    return operations


for _pass in ("forward", "backward"):
    for _kind, _said in (("dense", "of the dense network"), ("sparse", "without the masked weights, in theory")):
        METRICS.register(
            f"train/{_pass}_flops_{_kind}",
            summary=f"operations of the {_pass} passes of all training steps, {_said}",
            source="2 per weight and position, backward twice forward: Evci et al. 2020, 1911.11134, appendix H",
            facts=Metric(best="minimize", mid_training=True),
        )(_training_operations(f"{_pass}_{_kind}"))
