"""Schema 1: the blocks of a recipe and their keys. Frozen; a change gets a new number and a reader for the old one.

Every default that stands here is written out in the canonical form. A key that is added later is declared with
``later=True`` and left out while it has its default, so that the keys of old recipes stand.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from prune_search.recipe import axes
from prune_search.recipe.budget import NetworkBudget
from prune_search.recipe.fields import (
    ClockStep,
    Either,
    Flag,
    Integer,
    Length,
    ListOf,
    Number,
    Optimizer,
    Text,
    Value,
    Word,
    child,
    comes_before_the_mask,
    read_block,
    sees_the_mask,
)
from prune_search.recipe.problems import not_one_of, shown
from prune_search.recipe.reading import BAD, Reading, UnreadableError
from prune_search.recipe.registry import REQUIRED, Field, Option
from prune_search.recipe.step import Step
from prune_search.recipe.training_options import OF_RETRAIN, OF_TRAIN, drop_repeated, needs_no_teacher

SCHEMA = 1
BLOCKS = ("task", "train", "mask", "weights", "retrain", "rounds")
SEED_LIMIT = 2**53 - 1

# A function in a function has <locals> in its name: in Python it is passed itself, and the name only tells it apart.
_PART = r"(?:[A-Za-z_]\w*|<locals>|<lambda>)"
_USER_CODE = re.compile(rf"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:{_PART}(\.{_PART})*", re.ASCII)


@dataclass(frozen=True)
class Registered:
    """A registered value, or a user's own code named ``package.module:factory``."""

    value: Value

    def describe(self) -> str:
        return f"{self.value.describe()}, or package.module:factory"

    def read(self, raw: Any, path: str, reading: Reading) -> Any:
        if isinstance(raw, str) and ":" in raw:
            if len(raw) <= 400 and _USER_CODE.fullmatch(raw):
                return raw
            return reading.wrong(path, f"{shown(raw)} is not of the form package.module:factory")
        return self.value.read(raw, path, reading)


def is_user_code(canonical: object) -> bool:
    """Whether a canonical ``task.model`` or ``task.data`` names a user's own factory."""
    return isinstance(canonical, str) and ":" in canonical


@dataclass(frozen=True)
class SparsityField:
    """A number, ``{final: s}``, ``{per_round: p}``, ``learned``, ``{by: scope}``, ``{layers: n}``, ``{budget: …}``."""

    def describe(self) -> str:
        return "a number from 0 to below 1, {final: …}, {per_round: …} or {budget: …}"

    def read(self, raw: Any, path: str, reading: Reading) -> Any:
        share = Number(0.0, 1.0, below=True)
        forms: dict[str, Field] = {
            "final": share,
            "per_round": share,
            "by": Word(("scope",)),
            "layers": Integer(1, 10_000),
            "budget": NetworkBudget(),
        }
        if raw == "learned":
            return raw
        if not isinstance(raw, Mapping):
            value = share.read(raw, path, reading)
            return BAD if value is BAD else {"final": value}
        unknown = [key for key in raw if key not in forms]
        for key in unknown:
            reading.wrong(child(path, key), not_one_of(key, forms))
        if unknown:
            return BAD
        if len(raw) != 1:
            return reading.wrong(path, f"must have exactly one of {', '.join(forms)} (got {shown(raw)})")
        ((form, amount),) = raw.items()
        value = forms[form].read(amount, child(path, form), reading)
        return BAD if value is BAD else {form: value}


@dataclass(frozen=True)
class GranularityField:
    """A granularity; ``2:4`` is short for ``{name: n-of-m, n: 2, m: 4}``."""

    def describe(self) -> str:
        return Value(axes.GRANULARITIES).describe()

    def read(self, raw: Any, path: str, reading: Reading) -> Any:
        if isinstance(raw, str) and (match := re.fullmatch(r"([0-9]{1,4}):([0-9]{1,4})", raw, re.ASCII)):
            raw = {"name": "n-of-m", "n": int(match[1]), "m": int(match[2])}
        return Value(axes.GRANULARITIES).read(raw, path, reading)


STABLE = {
    "stable": Option(Value(axes.STABILITIES)),
    "below": Option(Number(0.0, 1.0), 0.1),
    "window": Option(Length(positive=True), "5ep"),
    "latest": Option(ClockStep(), "50%"),
}
SAME_FLOPS = {"same_flops_as": Option(Word(("train",))), "at_most": Option(Number(0.0, above=True), 2.0)}
HOLD = {"hold": Option(Either(((str, Word(("final",))), ((int, float), Number(0.0, 1e6, above=True)))))}
CALIBRATION = {
    "examples": Option(Integer(1, 1_000_000), doc="number of training examples, seen one by one"),
    "length": Option(Integer(1, 1_000_000), None, "tokens of each, at most"),
}


@dataclass(frozen=True)
class Block:
    """A mapping with known keys."""

    options: Mapping[str, Option]

    def describe(self) -> str:
        return f"a mapping with the keys {', '.join(self.options)}"

    def read(self, raw: Any, path: str, reading: Reading) -> Any:
        return read_block(self.options, raw, path, reading)


SCORE = {
    "iterations": Option(Integer(1, 10_000), 1, "number of scoring passes; the mask is tightened after each"),
    "path": Option(Value(axes.PATHS), "exponential", "how the kept share falls over the iterations"),
    "nested": Option(Flag(), True, "keep what one iteration removed removed in the next"),
    "batches": Option(Integer(1, 1_000_000), 1, "number of training batches used for the scores"),
    "per_class": Option(Integer(1, 100_000), None, "number of training examples per class, instead of batches"),
    "calibration": Option(Block(CALIBRATION), None, "examples of the scores, instead of batches", later=True),
    "loss": Option(Value(axes.LOSSES, needs_no_teacher), "cross-entropy", "loss that the scores differentiate"),
    "mode": Option(Word(("train", "eval")), "train", "mode of the network during scoring"),
    "normalization": Option(Value(axes.NORMALIZATIONS), "none", "how each layer's scores are normalized", later=True),
}


# What the scores are taken on, one of them.
DATA_OF_SCORES = ("batches", "per_class", "calibration")


@dataclass(frozen=True)
class ScoreField:
    """The score block: one of `batches`, `per_class` and `calibration`."""

    def describe(self) -> str:
        return Block(SCORE).describe()

    def read(self, raw: Any, path: str, reading: Reading) -> Any:
        given = [key for key in DATA_OF_SCORES if isinstance(raw, Mapping) and key in raw]
        for key in given[1:]:
            reading.wrong(child(path, key), f"cannot be combined with {given[0]}; choose one")
        value = read_block(SCORE, raw, path, reading)
        if value is not BAD and ("per_class" in value or "calibration" in value):
            del value["batches"]
        return value


TASK = {
    "data": Option(Registered(Value(axes.DATASETS)), "digits"),
    "model": Option(Registered(Value(axes.MODELS)), "mlp"),
    "seed": Option(Integer(0, SEED_LIMIT), 0),
}
DEFAULT_OPTIMIZER = {"name": "sgd", "lr": 0.1, "momentum": 0.9, "weight_decay": 5.0e-4}
TRAIN = {
    "steps": Option(Length(absolute=True), "10ep", "K, the length of the training clock"),
    "batch": Option(Integer(1, 1_000_000), 128, "examples per iteration"),
    "init": Option(Value(axes.INITS), "kaiming"),
    "optimizer": Option(Optimizer(axes.OPTIMIZERS), DEFAULT_OPTIMIZER),
    "schedule": Option(Value(axes.SCHEDULES), {"name": "step", "at": ["50%", "75%"], "factor": 0.1}),
    "precision": Option(Word(("fp32", "bf16")), "fp32"),
    "threads": Option(Integer(1, 1024), 1, "CPU threads"),
    "augment": Option(Value(axes.AUGMENTATIONS), "none"),
    "from": Option(Text(), None, "the trained weights w(K): a file, a Hugging Face folder, or model (as it was built)"),
    "batchnorm_l1": Option(
        Number(0.0, 1e3), 0.0, "L1 penalty on the scales of batch norms, in trajectory 1 and in retrainings", later=True
    ),
    **OF_TRAIN,
}
MASK = {
    "at": Option(
        Either(((str, ClockStep()), (dict, Block(STABLE)))), REQUIRED, "k1, the step whose weights the mask is found on"
    ),
    "prepare": Option(Value(axes.TRANSFORMS, comes_before_the_mask), None, "transforms applied to w(k1) before f1"),
    "criterion": Option(Value(axes.CRITERIA)),
    "score": Option(ScoreField(), {}),
    "sparsity": Option(SparsityField(), None),
    "scope": Option(Value(axes.SCOPES), "global"),
    "granularity": Option(GranularityField(), "weight"),
    "control": Option(Value(axes.CONTROLS), None),
    "rounding": Option(
        Word(("half-up", "floor-keep", "floor-drop")), "half-up", "rounding of the kept counts", later=True
    ),
    "ties": Option(
        Word(("index", "keep", "drop")),
        "index",
        "which of equal scores at the threshold to keep: the first ones (exact counts), all of them, or none",
        later=True,
    ),
}
WEIGHTS = {
    "at": Option(ClockStep(("mask", "prepared")), REQUIRED, "k2, the step whose weights are kept"),
    "transform": Option(ListOf(Value(axes.TRANSFORMS, sees_the_mask)), []),
}
RETRAIN = {
    "steps": Option(Either(((str, Length()), (dict, Block(SAME_FLOPS)))), None),
    "until": Option(ClockStep(), None),
    "clock": Option(Either(((str, ClockStep(("mask",))), (dict, Block(HOLD)))), None),
    "optimizer": Option(Optimizer(axes.OPTIMIZERS), {}),
    "schedule": Option(Value(axes.SCHEDULES), None),
    "dynamics": Option(Value(axes.DYNAMICS), None),
    "stretch": Option(Flag(), False),
    **OF_RETRAIN,
}
ROUNDS = Integer(1, 1000)


def read_blocks(raw: Mapping[str, object], reading: Reading) -> dict[str, Any]:
    """The canonical blocks of a recipe without holes, presets merged; BAD stands where something is wrong."""
    reading.outer_optimizer = DEFAULT_OPTIMIZER
    blocks: dict[str, Any] = {"task": read_block(TASK, raw.get("task", {}), "task", reading)}
    blocks["train"] = read_block(TRAIN, raw.get("train", {}), "train", reading)
    reading.outer_optimizer = _outer_optimizer(raw.get("train", {}))
    for name, options in (("mask", MASK), ("weights", WEIGHTS)):
        if name in raw:
            blocks[name] = read_block(options, raw[name], name, reading)
        else:
            blocks[name] = reading.wrong(name, f"is missing; it must have the keys {', '.join(options)}")
    blocks["retrain"] = _read_retrain(raw.get("retrain", REQUIRED), reading)
    blocks["rounds"] = ROUNDS.read(raw.get("rounds", 1), "rounds", reading)
    # Where one of them could not be read, the default is left out: nothing can be said of it.
    with contextlib.suppress(UnreadableError):
        retrain, at = blocks["retrain"], blocks["weights"]["at"]
        if retrain != "none" and "schedule" not in retrain:
            retrain.setdefault("clock", BAD if reading.problems else _default_clock(at, blocks["train"]["steps"]))
    with contextlib.suppress(UnreadableError):
        if blocks["retrain"] != "none":
            drop_repeated(blocks["train"], blocks["retrain"])
    return blocks


def _outer_optimizer(train: object) -> Mapping[str, Any] | None:
    """Train's optimizer, which phases merge theirs over, whatever else is wrong with train; None where it is wrong."""
    written = train.get("optimizer", DEFAULT_OPTIMIZER) if isinstance(train, Mapping) else DEFAULT_OPTIMIZER
    optimizer = Optimizer(axes.OPTIMIZERS).read(written, "", Reading(outer_optimizer=DEFAULT_OPTIMIZER))
    if optimizer is BAD:
        return None
    return {"name": optimizer} if isinstance(optimizer, str) else dict(optimizer)


def _default_clock(at: str, steps: str) -> object:
    """Rewinding: the clock follows the weights, unless they are those of the end."""
    words = at in ("prepared", "mask")
    last = at == "prepared" or (not words and Step.parse(at).place(Step.parse(steps)) == "end")
    return {"hold": "final"} if last else at


def _read_retrain(raw: object, reading: Reading) -> Any:
    if raw is REQUIRED:
        return reading.wrong("retrain", "is missing; it must be none, or have steps or until")
    if isinstance(raw, str):
        return Word(("none",)).read(raw, "retrain", reading)
    return read_block(RETRAIN, raw, "retrain", reading)
