"""How a network is trained besides its optimizer and schedule: clipping, averaging, early stopping and the like.

They stand in ``train`` and hold there and in every retraining; what ``retrain`` gives itself replaces train's. All were
added after schema 1 was frozen, so that each is left out of the canonical form where it does nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from prune_search.recipe import axes
from prune_search.recipe.facts import Loss
from prune_search.recipe.fields import (
    Either,
    Flag,
    Integer,
    Length,
    ListOf,
    Number,
    Text,
    Value,
    Word,
    canonical_default,
    read_block,
)
from prune_search.recipe.metric_names import can_be_a_tasks
from prune_search.recipe.named import Named
from prune_search.recipe.plain import Block, at_key, known_as
from prune_search.recipe.problems import not_one_of
from prune_search.recipe.reading import BAD, Reading
from prune_search.recipe.registry import AnyEntry, Option
from prune_search.recipe.step import Step

OFF = "none"
# ``retrain.loss``: the loss of the task.
TASK_LOSS = "task"
# ``retrain.loss.teacher``: w(K) of the same trial.
DENSE = "dense"


@dataclass(frozen=True)
class StoppingMetric:
    """A registered metric that can be measured in the middle of training."""

    def describe(self) -> str:
        return ", ".join(self._known())

    def read(self, raw: Any, path: str, reading: Reading) -> Any:
        known = self._known()
        fits = isinstance(raw, str) and (raw in known or can_be_a_tasks(raw))
        return raw if fits else reading.wrong(path, not_one_of(raw, known))

    def _known(self) -> list[str]:
        return [name for name, entry in axes.METRICS.items() if entry.facts.split == "validation"]


EARLY_STOPPING = {
    "metric": Option(StoppingMetric(), "val/loss", "metric of validation data"),
    "patience": Option(Integer(1, 1_000_000), 5, "evaluations in a row without a better value, after which it stops"),
    "every": Option(Length(positive=True), "1ep", "steps between evaluations"),
    "restore": Option(Flag(), True, "whether the result is the state at the best evaluation, or the last one"),
}


@dataclass(frozen=True)
class _Stopping:
    """The mapping of ``early_stopping``."""

    def describe(self) -> str:
        return f"a mapping with the keys {', '.join(EARLY_STOPPING)}"

    def read(self, raw: Any, path: str, reading: Reading) -> Any:
        return read_block(EARLY_STOPPING, raw, path, reading)


_CLIP = Either(((str, Word((OFF,))), ((int, float), Number(0.0, 1e12, above=True))))
_STOPPING = Either(((str, Word((OFF,))), (dict, _Stopping())))
# What holds in trajectory 1 and, where it is not given there, in retrainings too.
INHERITED = {
    "clip": Option(_CLIP, OFF, "largest norm of the gradient of all weights; a larger one is scaled down", later=True),
    "label_smoothing": Option(
        Number(0.0, 1.0, below=True), 0.0, "share of the label that is spread over all classes", later=True
    ),
    "decay_norms": Option(
        Flag(), True, "whether weight decay acts on biases and norms (parameters of one dimension) too", later=True
    ),
    "layer_decay": Option(
        Number(0.0, 1.0, above=True), 1.0, "factor of the learning rate per layer, from the output back", later=True
    ),
    "ema": Option(
        Number(0.0, 1.0, below=True),
        0.0,
        "decay per step of a moving average of the weights, which is the result; 0: none",
        later=True,
    ),
    "early_stopping": Option(_STOPPING, OFF, "stops when a metric of validation data no longer improves", later=True),
}
WARMUP = Option(Length(), "0it", "length of a linear warm-up of the learning rate, whatever the schedule", later=True)
ACCUMULATE = Option(Integer(1, 1_000_000), 1, "batches per optimizer step, whose mean loss is minimized", later=True)

CHECKPOINTING = Option(
    Flag(), False, "whether activations within repeated blocks are computed again in the backward pass", later=True
)

COMPILE = Option(Flag(), False, "whether training runs code that torch.compile made of the network", later=True)


def teaches(entry: AnyEntry) -> bool:
    """Losses that compare a network with a teacher."""
    return isinstance(entry.facts, Loss) and entry.facts.taught


def needs_no_teacher(entry: AnyEntry) -> bool:
    """Losses of outputs and labels alone."""
    return not teaches(entry)


@dataclass(frozen=True)
class RetrainLoss:
    """``task``, the loss of the task, or a registered loss that compares the network with a teacher."""

    def describe(self) -> str:
        known = [name for name, entry in axes.LOSSES.items() if teaches(entry)]
        return f"{TASK_LOSS}, or a loss with a teacher: {', '.join(sorted(known))}"

    def read(self, raw: Any, path: str, reading: Reading) -> Any:
        return raw if raw == TASK_LOSS else Value(axes.LOSSES, teaches).read(raw, path, reading)


LORA = {
    "rank": Option(Integer(1, 65_536), 8, "rank of the update of a weight"),
    "alpha": Option(Number(0.0, 1e6, above=True), 16.0, "the update counts alpha / rank times"),
    "targets": Option(
        ListOf(Text(), least=1), ["all"], "last parts of linear layers' names; all: every one but the output"
    ),
}


@dataclass(frozen=True)
class _LowRank:
    """The mapping of ``lora``."""

    def describe(self) -> str:
        return f"a mapping with the keys {', '.join(LORA)}"

    def read(self, raw: Any, path: str, reading: Reading) -> Any:
        return read_block(LORA, raw, path, reading)


# In a retraining each can be left out, and then train's holds.
OF_RETRAIN = {
    **{key: replace(option, default=None, later=False) for key, option in INHERITED.items()},
    "warmup": WARMUP,
    "loss": Option(RetrainLoss(), TASK_LOSS, "loss of the retraining: the task's, or one with a teacher", later=True),
    "lora": Option(
        Either(((str, Word((OFF,))), (dict, _LowRank()))),
        OFF,
        "trains a low-rank update of linear layers, all else frozen; the merged update keeps the mask",
        later=True,
    ),
}
OF_TRAIN = {
    **INHERITED,
    "warmup": WARMUP,
    "accumulate": ACCUMULATE,
    "activation_checkpointing": CHECKPOINTING,
    "compile": COMPILE,
}


def drop_repeated(train: Any, retrain: Any) -> None:
    """Leave out of ``retrain`` what says the same as ``train``, in place: the same trial has one canonical form.

    Raises:
        UnreadableError: one of the two could not be read.
    """
    for key, option in INHERITED.items():
        if key in retrain and retrain[key] is not BAD:
            outer = train[key] if key in train else canonical_default(option)
            if outer is not BAD and outer == retrain[key]:
                del retrain[key]


@dataclass(frozen=True)
class EarlyStopping:
    """When training stops before its end.

    Attributes:
        metric: of validation data; its registration says which way is better.
        patience: evaluations in a row without a better value, at least 1.
        every: steps between evaluations.
        restore: whether the result is the state at the best evaluation.
    """

    metric: str
    patience: int
    every: Step
    restore: bool

    @classmethod
    def of(cls, written: Block) -> EarlyStopping:
        """From the canonical form."""
        return cls(
            metric=at_key(str, written, "metric"),
            patience=at_key(int, written, "patience"),
            every=Step.parse(at_key(str, written, "every")),
            restore=at_key(bool, written, "restore"),
        )


@dataclass(frozen=True)
class Lora:
    """A retraining by low-rank updates.

    Attributes:
        rank: of an update, at least 1.
        alpha: an update counts alpha / rank times, above 0.
        targets: the last parts of names of linear layers; ``all``: every one besides the output.
    """

    rank: int
    alpha: float
    targets: tuple[str, ...]

    @classmethod
    def of(cls, written: Block) -> Lora:
        """From the canonical form."""
        targets = tuple(known_as(str, one, "targets") for one in at_key(list, written, "targets"))
        return cls(at_key(int, written, "rank"), at_key(float, written, "alpha"), targets)


@dataclass(frozen=True)
class TrainingOptions:
    """What holds in one training.

    Attributes:
        clip: the largest norm of the gradient, above 0; None: any.
        label_smoothing: 0 to below 1.
        decay_norms: whether weight decay acts on parameters of one dimension.
        layer_decay: factor of the learning rate per layer from the output back, above 0, at most 1.
        ema: decay of the moving average of the weights, 0 to below 1; 0: none.
        early_stopping: None: the training goes to its end.
        loss: with a teacher; None: the task's.
    """

    clip: float | None = None
    label_smoothing: float = 0.0
    decay_norms: bool = True
    layer_decay: float = 1.0
    ema: float = 0.0
    early_stopping: EarlyStopping | None = None
    loss: Named | None = None

    @classmethod
    def of(cls, train: Block, retrain: Block | None = None) -> TrainingOptions:
        """Of trajectory 1, or of a retraining.

        Args:
            train: the canonical block.
            retrain: the same, whose options replace train's; None: trajectory 1.
        """
        given = retrain or {}
        every = {key: canonical_default(option) for key, option in INHERITED.items()}
        block = {**every, **{key: part[key] for part in (train, given) for key in INHERITED if key in part}}
        stopping, loss = block["early_stopping"], given.get("loss", TASK_LOSS)
        return cls(
            clip=None if block["clip"] == OFF else at_key(float, block, "clip"),
            label_smoothing=at_key(float, block, "label_smoothing"),
            decay_norms=at_key(bool, block, "decay_norms"),
            layer_decay=at_key(float, block, "layer_decay"),
            ema=at_key(float, block, "ema"),
            early_stopping=None if stopping == OFF else EarlyStopping.of(known_as(Mapping, stopping, "early_stopping")),
            loss=None if loss == TASK_LOSS else Named.of(axes.LOSSES, loss),
        )

    @property
    def teacher(self) -> str | None:
        """``dense``, or the folder of an export; None without one."""
        return None if self.loss is None else known_as(str, self.loss.options.get("teacher", DENSE), "teacher")
