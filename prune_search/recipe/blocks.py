"""The blocks of a recipe, typed: every place a `Step`, every registered value a `Named`, every option an attribute.

They are read from the canonical form, which has been checked before, and keep it as `written`: what is hashed, stored
and shown is that form, byte for byte.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from prune_search.recipe import axes
from prune_search.recipe.facts import DataSource
from prune_search.recipe.fields import canonical_default
from prune_search.recipe.named import Named
from prune_search.recipe.plain import Block, at_key, known_as, named_at, step_at
from prune_search.recipe.registry import AnyAxis
from prune_search.recipe.schema import SCORE, is_user_code
from prune_search.recipe.step import Step
from prune_search.recipe.training_options import Lora, TrainingOptions

LossFunction = Callable[..., object]
Forms = Literal["final", "per_round", "learned", "by", "layers", "budget"]


# `train.from`: the weights that the factory built, and those of no file; a file of that name is ./model.
FROM_MODEL = "model"
NO_STEPS = Step(unit="it")


@dataclass(frozen=True)
class UserCode:
    """A user's own factory of a model or a data set.

    Attributes:
        name: ``package.module:factory``.
    """

    name: str


@dataclass(frozen=True)
class Task:
    """What is trained, on what.

    Attributes:
        data: the data set.
        model: the network.
        seed: of everything that is drawn.
        written: the canonical block.
    """

    data: Named | UserCode
    model: Named | UserCode
    seed: int
    written: Block = field(repr=False, compare=False)

    @classmethod
    def of(cls, written: Block) -> Task:
        """From the canonical block."""
        data = _code_or_named(axes.DATASETS, written["data"])
        model = _code_or_named(axes.MODELS, written["model"])
        return cls(data, model, at_key(int, written, "seed"), written)

    @property
    def of_users_code(self) -> bool:
        """Whether code of the user's own runs in a trial."""
        return isinstance(self.data, UserCode) or isinstance(self.model, UserCode)

    @property
    def is_whole(self) -> bool:
        """Whether model and data are those of one task of the user's own."""
        return isinstance(self.model, UserCode) and self.model == self.data

    @property
    def source(self) -> DataSource:
        """What is known of the data before they are read; of a user's own nothing."""
        data = self.data
        return DataSource() if isinstance(data, UserCode) else data.entry(axes.DATASETS).facts.having(data.options)


def _code_or_named(axis: AnyAxis, written: object) -> Named | UserCode:
    return UserCode(known_as(str, written, axis.key)) if is_user_code(written) else Named.of(axis, written)


@dataclass(frozen=True)
class Train:
    """The training clock, and how trajectory 1 is trained on it.

    Attributes:
        steps: K, the length of the clock.
        batch: examples per iteration.
        init: the initializer.
        optimizer, schedule, augment: registered values.
        precision: ``fp32`` or ``bf16``.
        threads: CPU threads.
        start: ``train.from``: the file whose weights are w(K), or ``model`` where the network that its factory built
            has them; None where w(0) is drawn.
        batchnorm_l1: L1 penalty on the scales of batch norms, at least 0.
        accumulate: batches per optimizer step, at least 1.
        activation_checkpointing: whether activations within blocks are computed again in the backward pass.
        compile: whether training runs compiled code.
        warmup: length of the linear warm-up of the clock's learning rate, besides the schedule's own.
        options: what holds in trajectory 1.
        written: the canonical block.
    """

    steps: Step
    batch: int
    init: Named
    optimizer: Named
    schedule: Named
    precision: str
    threads: int
    augment: Named
    start: str | None
    batchnorm_l1: float
    accumulate: int
    activation_checkpointing: bool
    compile: bool
    warmup: Step
    options: TrainingOptions
    written: Block = field(repr=False, compare=False)

    @classmethod
    def of(cls, written: Block) -> Train:
        """From the canonical block."""
        return cls(
            steps=Step.parse(at_key(str, written, "steps")),
            batch=at_key(int, written, "batch"),
            init=Named.of(axes.INITS, written["init"]),
            optimizer=Named.of(axes.OPTIMIZERS, written["optimizer"]),
            schedule=Named.of(axes.SCHEDULES, written["schedule"]),
            precision=at_key(str, written, "precision"),
            threads=at_key(int, written, "threads"),
            augment=Named.of(axes.AUGMENTATIONS, written["augment"]),
            start=at_key(str, written, "from") if "from" in written else None,
            batchnorm_l1=at_key(float, written, "batchnorm_l1") if "batchnorm_l1" in written else 0.0,
            accumulate=at_key(int, written, "accumulate") if "accumulate" in written else 1,
            activation_checkpointing=bool(written.get("activation_checkpointing", False)),
            compile=bool(written.get("compile", False)),
            warmup=step_at(written, "warmup") or NO_STEPS,
            options=TrainingOptions.of(written),
            written=written,
        )

    @property
    def step_examples(self) -> int:
        """Examples that an optimizer step sees."""
        return self.batch * self.accumulate

    @property
    def from_model(self) -> bool:
        """Whether w(K) is what the factory built."""
        return self.start == FROM_MODEL


@dataclass(frozen=True)
class Stable:
    """``mask.at: {stable: …}``: the mask is found where the masks on the way have become stable.

    Attributes:
        metric: the registered distance of two masks.
        below: the limit of the distances.
        window: for how long they stay below it.
        latest: where the mask is found where it never becomes stable.
        written: the canonical form.
    """

    metric: Named
    below: float
    window: Step
    latest: Step
    written: Block = field(repr=False, compare=False)

    @classmethod
    def of(cls, written: Block) -> Stable:
        """From the canonical form."""
        return cls(
            metric=Named.of(axes.STABILITIES, written["stable"]),
            below=at_key(float, written, "below"),
            window=Step.parse(at_key(str, written, "window")),
            latest=Step.parse(at_key(str, written, "latest")),
            written=written,
        )


@dataclass(frozen=True)
class Sparsity:
    """How much is removed: exactly one of its forms.

    Attributes:
        form: which one.
        amount: what is written for it: a share for ``final`` and ``per_round``, a count for ``layers``.
        budget: the kind and share of the dense network's cost to keep at most (`budget.NetworkBudget`); else None.

    Example:
        >>> Sparsity.of({"final": 0.9}).final
        0.9
    """

    form: Forms
    amount: float | None = None
    budget: Mapping[str, Any] | None = None

    @classmethod
    def of(cls, written: object) -> Sparsity:
        """From the canonical form."""
        if written == "learned":
            return cls("learned")
        ((form, amount),) = known_as(Mapping, written, "mask.sparsity").items()
        if form == "budget":
            return cls("budget", budget=known_as(Mapping, amount, "budget"))
        known: dict[object, Forms] = {"final": "final", "per_round": "per_round", "by": "by", "layers": "layers"}
        return cls(
            known[form], None if form == "by" else known_as((int if form == "layers" else float), amount, str(form))
        )

    @property
    def final(self) -> float | None:
        """The share that is removed after the last round; None in another form."""
        return self.amount if self.form == "final" else None

    @property
    def per_round(self) -> float | None:
        """The share of what is left that each round removes; None in another form."""
        return self.amount if self.form == "per_round" else None

    @property
    def layers(self) -> int | None:
        """How many whole layers are removed; None in another form."""
        return int(self.amount) if self.form == "layers" and self.amount is not None else None

    @property
    def learned(self) -> bool:
        """Whether it is learned."""
        return self.form == "learned"

    @property
    def by_scope(self) -> bool:
        """Whether the scope decides it."""
        return self.form == "by"

    @property
    def known(self) -> bool:
        """Whether it is a number before anything is trained."""
        return self.form in ("final", "per_round")


@dataclass(frozen=True)
class Score:
    """How scores are taken.

    Attributes:
        iterations: scoring passes, the mask tightened after each.
        path: how the kept share falls over them.
        nested: whether what one iteration removed stays removed in the next.
        batches: training batches that a pass sees; of no account with `per_class`.
        per_class: training examples per class instead; None: `batches`.
        calibration: so many training examples one by one instead, and how many tokens of each; None: `batches`.
        loss: whose gradient is scored: registered, or a caller's own function of (outputs, labels).
        mode: ``train`` or ``eval``, of the network while it is scored; None: as its modules are.
        normalization: of each layer's scores.
        written: the canonical block.
    """

    iterations: int
    path: Named
    nested: bool
    batches: int
    per_class: int | None
    loss: Named | LossFunction
    mode: str | None
    normalization: Named
    written: Block = field(repr=False, compare=False)
    calibration: tuple[int, int | None] | None = None

    @classmethod
    def of(cls, written: Block) -> Score:
        """From the canonical block; what is left out has its default."""
        block = {**{key: canonical_default(option) for key, option in SCORE.items() if key not in written}, **written}
        loss = block["loss"]
        return cls(
            iterations=at_key(int, block, "iterations"),
            path=Named.of(axes.PATHS, block["path"]),
            nested=at_key(bool, block, "nested"),
            batches=at_key(int, block, "batches"),
            per_class=at_key(int, written, "per_class") if "per_class" in written else None,
            loss=loss if callable(loss) else Named.of(axes.LOSSES, loss),
            mode=None if block["mode"] is None else at_key(str, block, "mode"),
            normalization=Named.of(axes.NORMALIZATIONS, block["normalization"]),
            written=written,
            calibration=_calibration(written.get("calibration")),
        )


def _calibration(written: object) -> tuple[int, int | None] | None:
    if written is None:
        return None
    block = known_as(Mapping, written, "mask.score.calibration")
    length = block.get("length")
    return at_key(int, block, "examples"), None if length is None else known_as(int, length, "length")


@dataclass(frozen=True)
class Mask:
    """f1: where the mask is found, and which.

    Attributes:
        at: k1, or how the place is found on the way.
        criterion, scope, granularity: registered values.
        score: how scores are taken.
        sparsity: how much is removed.
        prepare: the transform that w(k1) goes through before, or None.
        control: what becomes of the mask instead, for comparison, or None.
        rounding: of counts.
        ties: what becomes of equal scores at the border.
        written: the canonical block.
    """

    at: Step | Stable
    criterion: Named
    score: Score
    sparsity: Sparsity
    scope: Named
    granularity: Named
    prepare: Named | None
    control: Named | None
    rounding: str
    ties: str
    written: Block = field(repr=False, compare=False)

    @classmethod
    def of(cls, written: Block) -> Mask:
        """From the canonical block."""
        at = written["at"]
        return cls(
            at=Stable.of(at) if isinstance(at, Mapping) else Step.parse(known_as(str, at, "mask.at")),
            criterion=Named.of(axes.CRITERIA, written["criterion"]),
            score=Score.of(at_key(Mapping, written, "score")),
            # A recipe that lacks it is wrong; it is placed on its clock even so, to say what else is.
            sparsity=Sparsity.of(written.get("sparsity", {"final": 0.0})),
            scope=Named.of(axes.SCOPES, written["scope"]),
            granularity=Named.of(axes.GRANULARITIES, written["granularity"]),
            prepare=named_at(axes.TRANSFORMS, written, "prepare"),
            control=named_at(axes.CONTROLS, written, "control"),
            rounding=known_as(str, written.get("rounding", "half-up"), "mask.rounding"),
            ties=known_as(str, written.get("ties", "index"), "mask.ties"),
            written=written,
        )

    @property
    def stable(self) -> Stable | None:
        """How the place is found on the way; None where the recipe names it."""
        return self.at if isinstance(self.at, Stable) else None

    @property
    def latest(self) -> Step:
        """k1, at the latest."""
        return self.at.latest if isinstance(self.at, Stable) else self.at


@dataclass(frozen=True)
class Weights:
    """f2: which weights are kept, and what is done to them.

    Attributes:
        at: k2; ``mask``: where the mask was found; ``prepared``: what ``mask.prepare`` left.
        transforms: what they go through, in this order.
        written: the canonical block.
    """

    at: Step | Literal["mask", "prepared"]
    transforms: tuple[Named, ...]
    written: Block = field(repr=False, compare=False)

    @classmethod
    def of(cls, written: Block) -> Weights:
        """From the canonical block."""
        words: dict[str, Literal["mask", "prepared"]] = {"mask": "mask", "prepared": "prepared"}
        at = at_key(str, written, "at")
        transforms = tuple(Named.of(axes.TRANSFORMS, item) for item in at_key(list, written, "transform"))
        return cls(words[at] if at in words else Step.parse(at), transforms, written)


@dataclass(frozen=True)
class SameFlops:
    """``retrain.steps: {same_flops_as: train}``: as many operations as the training took, sparse ones counted.

    Attributes:
        at_most: times the training's steps.
    """

    at_most: float


@dataclass(frozen=True)
class Hold:
    """``retrain.clock: {hold: …}``: one learning rate for the whole retraining.

    Attributes:
        rate: a number; ``final``: the clock's last.
    """

    rate: float | Literal["final"]

    @classmethod
    def of(cls, written: Block) -> Hold:
        """From the canonical form."""
        return cls("final" if written["hold"] == "final" else at_key(float, written, "hold"))


@dataclass(frozen=True)
class Retrain:
    """f3: how the pruned network is trained.

    Attributes:
        steps: how long; None where `until` says it.
        until: where on the clock it ends; None where `steps` says how long it lasts.
        clock: where on the clock it begins, ``mask`` (where the mask was found), or a rate that is held; None with a
            schedule of its own.
        optimizer: registered.
        schedule: of its own, or None.
        dynamics: what moves the mask, or None.
        stretch: whether the rest of the clock is passed through in `steps`.
        warmup: length of the linear warm-up of its learning rate, whatever that is.
        lora: trains low-rank updates alone; None: all weights.
        written: the canonical block.
    """

    steps: Step | SameFlops | None
    until: Step | None
    clock: Step | Hold | Literal["mask"] | None
    optimizer: Named
    schedule: Named | None
    dynamics: Named | None
    stretch: bool
    warmup: Step
    lora: Lora | None
    written: Block = field(repr=False, compare=False)

    @classmethod
    def of(cls, written: Block) -> Retrain:
        """From the canonical block."""
        return cls(
            steps=_length(written),
            until=step_at(written, "until"),
            clock=_clock(written),
            optimizer=Named.of(axes.OPTIMIZERS, written["optimizer"]),
            schedule=named_at(axes.SCHEDULES, written, "schedule"),
            dynamics=named_at(axes.DYNAMICS, written, "dynamics"),
            stretch=at_key(bool, written, "stretch"),
            warmup=step_at(written, "warmup") or NO_STEPS,
            lora=Lora.of(at_key(Mapping, written, "lora")) if isinstance(written.get("lora"), Mapping) else None,
            written=written,
        )


def _length(retrain: Block) -> Step | SameFlops | None:
    steps = retrain.get("steps")
    return SameFlops(at_key(float, steps, "at_most")) if isinstance(steps, Mapping) else step_at(retrain, "steps")


def _clock(retrain: Block) -> Step | Hold | Literal["mask"] | None:
    clock = retrain.get("clock")
    if isinstance(clock, Mapping):
        return Hold.of(clock)
    return "mask" if clock == "mask" else step_at(retrain, "clock")
