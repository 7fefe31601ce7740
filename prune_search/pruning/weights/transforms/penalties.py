"""Growing regularization: a growing L2 penalty on the weights to remove (Wang et al. 2021, 2012.09243).

The objective is L + ½ Σ λ_i w_i², so every step adds λ_i w_i to the gradient of w_i; the optimizer's own weight decay
stays on. With the penalty held long enough a quadratic loss ends at (H + λI)⁻¹ H w*.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import ROUND_CEILING, Decimal
from typing import TYPE_CHECKING, Any

from prune_search.recipe.axes import OPTIMIZERS, SCHEDULES, TRANSFORMS
from prune_search.recipe.facts import Transform
from prune_search.recipe.fields import Flag, Length, Number, Optimizer, Value
from prune_search.recipe.registry import Option
from prune_search.recipe.step import Step
from prune_search.tasks.shards import gathered

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from prune_search.pruning.weights.context import TransformContext
    from prune_search.training.loop import Hook
    from prune_search.training.phase import Phase
else:
    from prune_search.lazy import torch

SOURCE = "Wang, Qin, Zhang & Fu 2021, Neural Pruning via Growing Regularization, 2012.09243"
SMOOTHING = 0.9

_SHARED = {
    "every": Option(Length(positive=True), "10it", "between two increments"),
    "optimizer": Option(Optimizer(OPTIMIZERS), {"lr": 1.0e-3}, "optimizer of the phase, merged over train's"),
    "schedule": Option(Value(SCHEDULES), "constant", "schedule of the phase"),
}


@dataclass(frozen=True)
class Ramp:
    """A penalty that grows in equal increments: λ(t) = min(start + step·(⌊t/every⌋ + 1), ceiling).

    Computed in decimals, not summed up, so that it is exact at every step.

    Attributes:
        start: λ before the first increment.
        step: the increment.
        every: iterations between two increments; the first comes at iteration 0.
        ceiling: where it ends.
    """

    start: Decimal
    step: Decimal
    every: int
    ceiling: Decimal

    @property
    def updates(self) -> int:
        """Increments until the ceiling is reached."""
        if self.start >= self.ceiling:
            return 0
        return int(((self.ceiling - self.start) / self.step).to_integral_value(ROUND_CEILING))

    @property
    def iterations(self) -> int:
        """Iterations until the last increment has been held for `every` iterations."""
        return self.updates * self.every

    @property
    def last(self) -> int:
        """The iteration of the last increment."""
        return max(0, self.updates - 1) * self.every

    def at(self, iteration: int) -> Decimal:
        """λ during an iteration."""
        grown = self.start + self.step * (iteration // self.every + 1)
        return min(grown, max(self.ceiling, self.start))


class Penalty:
    """Adds λ ⊙ w to the gradients of some weights.

    Attributes:
        values: the penalty per weight, by parameter name, shaped like it.
    """

    def __init__(self, parameters: Mapping[str, nn.Parameter]) -> None:
        self.parameters = parameters
        self.values: dict[str, Tensor] = {}

    def set(self, name: str, pruned: Tensor, growing: float, kept: float) -> None:
        """Set λ of one layer: `growing` where `pruned` (bool, shaped like the weight [...]), else `kept`."""
        weight = self.parameters[name]
        value = torch.full_like(weight, kept, requires_grad=False)
        self.values[name] = value.masked_fill_(pruned.to(weight.device), growing)

    def set_all(self, names: Iterable[str], value: float) -> None:
        """Set λ of every weight of some layers."""
        for name in names:
            self.values[name] = torch.full_like(self.parameters[name], value, requires_grad=False)

    def add_to_gradients(self) -> None:
        """grad += λ ⊙ w."""
        gradients: list[Tensor] = []
        weights: list[Tensor] = []
        values: list[Tensor] = []
        for name, value in self.values.items():
            weight = self.parameters[name]
            if weight.grad is not None:
                gradients.append(weight.grad)
                weights.append(weight)
                values.append(value)
        if gradients:
            with torch.no_grad():
                torch._foreach_addcmul_(gradients, weights, values)


class GrowingHook:
    """GReg's update and stabilise stages on one mask, as a hook.

    Structured units can finish before the ceiling: a layer is done when the smoothed ratio of mean |kept| to mean
    |removed| reaches `ratio`. In GReg-1 (`together`) all layers must be done; in GReg-2 each stops for itself.

    Args:
        penalty: that is set.
        removed: per layer, bool masks of the weights to remove, shaped like them.
        ramp: how the penalty grows.
        stabilise: iterations for which the last penalty is held.
        stop: ``kept``, ``ratio`` and ``together``.
        hold: iterations before it grows, in which all weights of all layers have the penalty ``ramp.start``.
    """

    def __init__(
        self,
        penalty: Penalty,
        removed: Mapping[str, Tensor],
        ramp: Ramp,
        stabilise: int,
        stop: Mapping[str, Any],
        hold: int = 0,
    ) -> None:
        self.penalty = penalty
        self.everything = tuple(removed)
        self.hold = hold
        self.removed = {name: mask for name, mask in removed.items() if bool(gathered(mask.any()))}
        self.ramp = ramp
        self.stabilise = stabilise
        self.kept = float(stop["kept"])
        self.ratio = stop["ratio"]
        self.together = bool(stop["together"])
        # Per layer: the smoothed ratio, and the iteration at which its penalty stopped growing (-1: it grows).
        self.smoothed = torch.zeros(len(self.removed), dtype=torch.float64)
        self.stopped = torch.full((len(self.removed),), -1, dtype=torch.int64)
        self.shown = -1

    def before_step(self, step: int) -> None:
        """The increment of this iteration, where one is due."""
        if step < self.hold:
            if not self.penalty.values:
                self.penalty.set_all(self.everything, float(self.ramp.start))
            return
        step -= self.hold
        update = step // self.ramp.every
        if update == self.shown:
            return
        fresh = self.shown == -1
        if fresh:
            self.penalty.values.clear()
        self.shown = update
        if step % self.ramp.every == 0 and step < self.ramp.iterations and self.ratio is not None:
            self._watch(step)
        for index, (name, removed) in enumerate(self.removed.items()):
            stop = int(self.stopped[index])
            if stop < 0 or fresh:
                # A stopped layer keeps the penalty of the iteration before it stopped.
                value = self.ramp.at(step if stop < 0 else stop - 1) if stop != 0 else self.ramp.start
                self.penalty.set(name, removed, float(value), self.kept)

    def _watch(self, step: int) -> None:
        for index, (name, removed) in enumerate(self.removed.items()):
            size = self.penalty.parameters[name].detach().abs()
            removed = removed.to(size.device)
            kept_size = size[~removed].mean() if bool((~removed).any()) else size.new_zeros(())
            ratio = float(kept_size / size[removed].mean().clamp_min(1e-30))
            before = float(self.smoothed[index])
            self.smoothed[index] = ratio if before == 0.0 else SMOOTHING * before + (1 - SMOOTHING) * ratio
        done = self.smoothed >= self.ratio
        if self.together:
            done = done.all().expand_as(done)
        self.stopped[done & (self.stopped < 0)] = step

    def finished(self, step: int) -> bool:
        """Whether the penalty has grown to its end and been held for the stabilising iterations."""
        if not self.removed:
            return True
        ends = torch.where(self.stopped >= 0, self.stopped, self.ramp.iterations)
        return step >= self.hold + int(ends.max()) + self.stabilise

    def state(self) -> dict[str, Tensor]:
        """What must be remembered to go on."""
        return {"smoothed": self.smoothed, "stopped": self.stopped}

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Continue from `state`: λ per weight, shaped like the weights [...]."""
        self.smoothed, self.stopped = state["smoothed"].clone(), state["stopped"].clone()

    def hook(self) -> Hook:
        """As a hook of the training loop."""
        from prune_search.training.loop import Hook

        return Hook(
            "growing-penalty",
            before_step=self.before_step,
            after_backward=lambda step: self.penalty.add_to_gradients(),
            finished=self.finished,
            state=self.state,
            load=self.load,
        )


def _phase(setting: TransformContext, total: int, options: Mapping[str, Any], hooks: Any) -> Phase:
    from prune_search.recipe.clock import base_rate, rate_of
    from prune_search.recipe.recipe import Named
    from prune_search.training.phase import Phase

    optimizer = Named.of(OPTIMIZERS, options["optimizer"])
    schedule = Named.of(SCHEDULES, options["schedule"])
    return Phase(total, optimizer, rate_of(schedule, base_rate(optimizer), total, setting.epoch), hooks)


def _iterations(length: str, epoch: int) -> int:
    return Step.parse(length).resolve(0, epoch)


def _growth(epoch: int, penalty: Decimal, options: Mapping[str, Any]) -> Ramp:
    """How a growing penalty grows from where it stands."""
    every = max(1, _iterations(options["every"], epoch))
    return Ramp(penalty, Decimal(repr(options["step"])), every, Decimal(repr(options["ceiling"])))


def _growth_length(epoch: int, penalty: Decimal, **options: Any) -> int:
    parts = (options["hold"], options["stabilise"])
    return _growth(epoch, penalty, options).iterations + sum(_iterations(part, epoch) for part in parts)


def _rise(epoch: int, options: Mapping[str, Any]) -> Ramp:
    """How the penalty on every weight rises."""
    every = max(1, _iterations(options["every"], epoch))
    return Ramp(Decimal(0), Decimal(repr(options["step"])), every, Decimal(repr(options["until"])))


def _rise_length(epoch: int, penalty: Decimal, **options: Any) -> int:
    rise = _rise(epoch, options)
    return rise.iterations if options["hold"] else rise.last


@TRANSFORMS.register(
    "growing-penalty",
    summary="GReg: the L2 penalty on the weights to remove grows to a ceiling and is then held",
    source=SOURCE,
    options={
        "step": Option(Number(0.0, 1e6, above=True), 1.0e-4, "increment of the penalty (δλ)"),
        "every": _SHARED["every"],
        "ceiling": Option(Number(0.0, 1e6, above=True), 1.0, "ceiling of the penalty (τ)"),
        "kept": Option(
            Number(-1e3, 1e3), 0.0, "constant penalty on the kept weights; GReg-2 uses -1e-4, i.e. less decay"
        ),
        "ratio": Option(Number(1.0), 1000.0, "structured: stop growing at this ratio of kept to removed magnitude"),
        "stabilise": Option(Length(absolute=True), "10000it", "iterations for which the penalty is held"),
        "hold": Option(
            Length(absolute=True),
            "0it",
            "iterations before it grows, in which all weights keep the penalty of mask.prepare; GReg-2: as `every`",
            later=True,
        ),
        "optimizer": _SHARED["optimizer"],
        "schedule": _SHARED["schedule"],
    },
    facts=Transform(trains=True, length=_growth_length, needs_data=True, sharded=True),
)
def growing_penalty(setting: TransformContext, **options: Any) -> Phase:
    """The update and stabilise stages of GReg, after ``mask.prepare`` the second half of GReg-2."""
    epoch = setting.epoch
    ramp = _growth(epoch, setting.penalty, options)
    stabilise, hold = (_iterations(options[key], epoch) for key in ("stabilise", "hold"))
    structured = setting.rule.granularity.entry(_granularities()).facts.structured

    def hooks() -> list[Hook]:
        parameters = dict(setting.network.model.named_parameters())
        removed = {name: ~setting.masks[name] for name in setting.layers} if setting.masks is not None else {}
        stop = {
            "kept": options["kept"],
            "ratio": options["ratio"] if structured else None,
            "together": setting.penalty == 0,
        }
        return [GrowingHook(Penalty(parameters), removed, ramp, stabilise, stop, hold).hook()]

    return _phase(setting, hold + ramp.iterations + stabilise, options, hooks)


def _granularities() -> Any:
    from prune_search.recipe.axes import GRANULARITIES

    return GRANULARITIES


@TRANSFORMS.register(
    "rising-penalty",
    summary="GReg-2's pick phase: an L2 penalty rises on all weights, which respond according to their curvature",
    source=SOURCE,
    options={
        "step": Option(Number(0.0, 1e6, above=True), 1.0e-5, "increment of the penalty"),
        "every": _SHARED["every"],
        "until": Option(Number(0.0, 1e6, above=True), 1.0e-2, "ceiling of the penalty (τ')"),
        "hold": Option(
            Flag(),
            True,
            "train under the last penalty before the mask is found; the released code finds it at the last increment",
            later=True,
        ),
        "optimizer": _SHARED["optimizer"],
        "schedule": _SHARED["schedule"],
    },
    facts=Transform(
        place="prepare",
        trains=True,
        length=_rise_length,
        leaves_penalty=lambda **options: Decimal(repr(options["until"])),
        needs_data=True,
        sharded=True,
    ),
)
def rising_penalty(setting: TransformContext, **options: Any) -> Phase:
    """The same penalty on every weight of the layers that take part.

    The released code picks in the step of the last increment, and trains under that penalty afterwards: with ``hold``
    off, and as much ``hold`` of the growing penalty that follows.
    """
    epoch = setting.epoch
    ramp = _rise(epoch, options)

    def hooks() -> list[Hook]:
        from prune_search.training.loop import Hook

        parameters = dict(setting.network.model.named_parameters())
        penalty = Penalty(parameters)

        def before_step(step: int) -> None:
            if step % ramp.every == 0 or not penalty.values:
                penalty.set_all(setting.layers, float(ramp.at(step)))

        return [Hook("rising-penalty", before_step=before_step, after_backward=lambda step: penalty.add_to_gradients())]

    return _phase(setting, _rise_length(epoch, Decimal(0), **options), options, hooks)
