"""Converts a recipe's steps to iterations. It needs only the length of an epoch.

There is one training clock, from 0 to K. A retraining that goes on on it takes the learning rate and the data order of
its place; one whose rate is held, or that has a schedule of its own, takes the data order from K on.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

from prune_search.recipe import axes
from prune_search.recipe.blocks import Hold, Retrain, SameFlops, Weights
from prune_search.recipe.fields import child
from prune_search.recipe.problems import Problem, UserError
from prune_search.recipe.recipe import Named, Recipe
from prune_search.recipe.step import END, MAX_ITERATIONS, Step
from prune_search.recipe.training_options import DENSE

Rate = Callable[[int], float]

SAMPLES = 400
MIN_SHARE_OF_PEAK = 1e-3


@dataclass(frozen=True)
class Timeline:
    """A recipe's places in iterations.

    Attributes:
        epoch: iterations in an epoch.
        total: K.
        k1: where the mask is found on its trajectory.
        k2: where the weights are taken on trajectory 1; None for ``end`` (the current trajectory) and ``prepared``.
        trained: how far trajectory 1 is trained.
        retrain_steps: iterations of one retraining; 0 for ``none``.
        order_from: the clock's step from which the retraining takes its data order.
        rate: the retraining's learning rate at its own step t.
        clock: the retraining's place on the clock, or None where its rate is held or it has a schedule of its own.
        least_steps: iterations that the retraining takes at least; `retrain_steps` where that is known beforehand.
    """

    epoch: int
    total: int
    k1: int
    k2: int | None
    trained: int
    retrain_steps: int
    order_from: int
    rate: Rate
    clock: int | None
    least_steps: int

    @property
    def open(self) -> bool:
        """Whether the retraining is only known when the mask is: `retrain_steps` is the most that it can take."""
        return self.least_steps < self.retrain_steps


def rate_of(schedule: Named, base: float, total: int, epoch: int, path: str = "schedule") -> Rate:
    """A registered learning-rate schedule as a function of the step.

    Raises:
        UserError: its options do not fit the clock; said of `path`.
    """
    try:
        rate: Rate = schedule.entry(axes.SCHEDULES).make(base, total, epoch, **schedule.options)
    except UserError as error:
        raise UserError(replace(problem, path=child(path, problem.path)) for problem in error.problems) from None
    return rate


def warmed(rate: Rate, length: int) -> Rate:
    """A rate that is multiplied by (t + 1) / length in its first steps; of no length, the rate itself."""
    if length == 0:
        return rate
    return lambda step: rate(step) * min(1.0, (step + 1) / length)


def _warm_up(path: str, written: Step, total: int, epoch: int) -> int:
    """The length of a warm-up in iterations.

    Raises:
        UserError: it is longer than what it warms up.
    """
    length = written.resolve(total, epoch)
    if length > total:
        text = f"{written} is {length} iterations, past the end of a training of {total} iterations"
        raise UserError([Problem(path, text, form=False)])
    return length


def base_rate(optimizer: Named) -> float:
    """The peak learning rate of a registered optimizer."""
    return float(optimizer.options["lr"])


def train_rate(recipe: Recipe, epoch: int) -> Rate:
    """Learning rate of trajectory 1 by step."""
    total = recipe.train.steps.resolve(0, epoch)
    return _clock_rate(recipe, base_rate(recipe.optimizer), total, epoch)


def _clock_rate(recipe: Recipe, base: float, total: int, epoch: int) -> Rate:
    """The learning rate of train's schedule at a step of the clock, from the rate of some optimizer."""
    rate = rate_of(recipe.train.schedule, base, total, epoch, "train.schedule")
    return warmed(rate, _warm_up("train.warmup", recipe.train.warmup, total, epoch))


def resolve(recipe: Recipe, epoch: int) -> Timeline:
    """Place every step of a recipe.

    Args:
        recipe: the recipe.
        epoch: iterations in an epoch, ⌊training examples / batch⌋, at least 1.

    Raises:
        UserError: a place past the end or before the beginning, or a retraining whose rate is next to nothing.
    """
    problems: list[Problem] = []
    train, mask, weights, retrain = recipe.train, recipe.mask, recipe.weights, recipe.retrain
    total = train.steps.resolve(0, epoch)
    if total > MAX_ITERATIONS:
        text = f"is {total} iterations; at most {MAX_ITERATIONS} are allowed"
        problems.append(Problem("train.steps", text, form=False))
    # A place that is found while the network is trained counts as the latest that it can be.
    k1 = _place("mask.at.latest" if mask.stable else "mask.at", mask.latest, total, epoch, problems)
    k2 = _k2(weights, k1, total, epoch, problems)
    trained = max(k1, k2 if k2 is not None else (total if weights.at == END else k1))
    if recipe.retrain_options.teacher == DENSE:
        # w(K) teaches.
        trained = total
    start = _Start(recipe, epoch, total, k1, problems)
    steps = start.steps(retrain) if retrain is not None else 0
    least = steps
    if retrain is not None:
        if mask.stable and not problems and retrain.clock == "mask":
            steps = replace(start, k1=0).steps(retrain)
        if isinstance(retrain.steps, SameFlops):
            least = min(steps, total)
        if retrain.dynamics is not None:
            problems += _dynamics(retrain.dynamics, steps, epoch)
    rate: Rate = _at_rest
    try:
        train_rate(recipe, epoch)
        rate = start.rate(steps)
    except UserError as error:
        problems += error.problems
    if problems:
        raise UserError(problems)
    if retrain is not None:
        _check_rate(recipe, rate, least if mask.stable else steps, total, epoch)
    order_from = total if start.clock is None else start.clock
    return Timeline(epoch, total, k1, k2, trained, steps, order_from, rate, start.clock, least)


@dataclass(frozen=True)
class Lasting:
    """A retraining whose mask is known.

    Attributes:
        steps: iterations.
        rate: learning rate by its own step.
        order_from: the clock's step from which it takes its data order.
    """

    steps: int
    rate: Rate
    order_from: int


def lasting(recipe: Recipe, line: Timeline, k1: int, relief: float) -> Lasting:
    """The retraining of a recipe, once it is known where and which mask was found.

    Args:
        recipe: with a retraining.
        line: its timeline.
        k1: where the mask was found on trajectory 1.
        relief: operations of the dense network over those of the pruned one, at least 1.
    """
    start = _Start(recipe, line.epoch, line.total, k1, [], relief)
    steps = 0 if recipe.retrain is None else min(start.steps(recipe.retrain), line.retrain_steps)
    return Lasting(steps, start.rate(steps), line.total if start.clock is None else start.clock)


def _dynamics(dynamics: Named, steps: int, epoch: int) -> list[Problem]:
    if steps == 0:
        return [Problem("retrain", "has no steps in which retrain.dynamics could move the mask", form=False)]
    misplaced = dynamics.entry(axes.DYNAMICS).facts.misplaced(steps, epoch, **dynamics.options)
    return [Problem(child("retrain.dynamics", key), message, form=False) for key, message in misplaced]


def _at_rest(step: int) -> float:
    return 0.0


def _place(path: str, written: Step, total: int, epoch: int, problems: list[Problem]) -> int:
    step = written.resolve(total, epoch)
    if not 0 <= step <= total:
        where = "past the end" if step > total else "before the beginning"
        message = f"{written} is {where} of the training clock (train.steps is {total}it, an epoch {epoch}it)"
        problems.append(Problem(path, message, form=False))
        return min(max(step, 0), total)
    return step


def _k2(weights: Weights, k1: int, total: int, epoch: int, problems: list[Problem]) -> int | None:
    if weights.at == "mask":
        return k1
    if weights.at == "prepared" or weights.at == END:
        return None
    return _place("weights.at", weights.at, total, epoch, problems)


@dataclass
class _Start:
    """Where the retraining stands on the clock, and how fast it learns."""

    recipe: Recipe
    epoch: int
    total: int
    k1: int
    problems: list[Problem]
    relief: float = math.inf

    @property
    def clock(self) -> int | None:
        """The step of the clock that it begins at; None where it is not on the clock."""
        clock = self.recipe.retrain.clock if self.recipe.retrain is not None else None
        if clock is None or isinstance(clock, Hold):
            return None
        if clock == "mask":
            return self.k1
        return min(max(clock.resolve(self.total, self.epoch), 0), self.total)

    def steps(self, retrain: Retrain) -> int:
        # A clock that follows the weights is wrong where they are, which is said there.
        if isinstance(retrain.clock, Step) and retrain.clock != self.recipe.weights.at:
            _place("retrain.clock", retrain.clock, self.total, self.epoch, self.problems)
        clock = self.clock
        if retrain.until is not None:
            until = _place("retrain.until", retrain.until, self.total, self.epoch, self.problems)
            if until < (clock or 0):
                text = f"{retrain.until} is before the start of the retraining ({clock}it of {self.total}it)"
                self.problems.append(Problem("retrain.until", text, form=False))
            return max(until - (clock or 0), 0)
        if isinstance(retrain.steps, SameFlops):
            steps = int(min(self.relief, retrain.steps.at_most) * self.total + 0.5)
        else:
            steps = 0 if retrain.steps is None else retrain.steps.resolve(self.total, self.epoch)
        if clock is not None and clock + steps > self.total and not retrain.stretch:
            text = f"{retrain.steps} from the clock's {clock}it runs past its end ({self.total}it)"
            self.problems.append(Problem("retrain.steps", text, form=False))
        if steps > MAX_ITERATIONS:
            text = f"is {steps} iterations; at most {MAX_ITERATIONS} are allowed"
            self.problems.append(Problem("retrain.steps", text, form=False))
        return steps

    def rate(self, steps: int) -> Rate:
        retrain = self.recipe.retrain
        if retrain is None:
            return self._unwarmed(steps)
        if math.isinf(self.relief):
            length = _warm_up("retrain.warmup", retrain.warmup, steps, self.epoch)
        else:
            # Once the mask is known the retraining can be shorter than it was taken to be.
            length = min(retrain.warmup.resolve(steps, self.epoch), steps)
        return warmed(self._unwarmed(steps), length)

    def _unwarmed(self, steps: int) -> Rate:
        train, retrain = self.recipe.train, self.recipe.retrain
        base = base_rate(retrain.optimizer if retrain is not None else train.optimizer)
        if retrain is not None and retrain.schedule is not None:
            return rate_of(retrain.schedule, base, steps, self.epoch, "retrain.schedule")
        on_clock = _clock_rate(self.recipe, base, self.total, self.epoch)
        if retrain is not None and isinstance(retrain.clock, Hold):
            held = retrain.clock.rate
            rate = on_clock(max(self.total - 1, 0)) if held == "final" else held
            return lambda step: rate
        clock = self.clock or 0
        if retrain is not None and retrain.stretch and steps > 0:
            # The rest of the clock is passed through in so many steps.
            left = self.total - clock
            return lambda step: on_clock(clock + step * left // steps)
        return lambda step: on_clock(clock + step)


def _sampled(steps: int) -> range:
    return range(0, steps, max(1, steps // SAMPLES))


def _check_rate(recipe: Recipe, rate: Rate, steps: int, total: int, epoch: int) -> None:
    """A retraining whose rate is under a thousandth of the peak for over half its steps trains nothing."""
    on_clock = train_rate(recipe, epoch)
    peak = max((on_clock(step) for step in _sampled(total)), default=0.0)
    rates = [rate(step) for step in _sampled(steps)]
    small = sum(value < MIN_SHARE_OF_PEAK * peak for value in rates)
    if small * 2 > len(rates):
        own = recipe.retrain is not None and recipe.retrain.schedule is not None
        path = "retrain.schedule" if own else "retrain.clock"
        message = (
            f"the learning rate is under a thousandth of the peak ({peak:g}) for over half of the {steps} steps of the "
            f"retraining (it ends at {rates[-1]:.3g}): hold a rate or rewind the clock"
        )
        raise UserError([Problem(path, message, form=False)])
