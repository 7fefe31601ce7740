"""The error that published findings let us expect of a recipe, as one smooth formula.

The simulator's surface in closed form is this formula with noise; `simulation.surfaces.closed_form` writes it down with
its sources. The sampler `guided` takes it as a prior mean.
"""

from __future__ import annotations

import math
from typing import Protocol

from prune_search.recipe import axes
from prune_search.recipe.clock import Timeline, base_rate, train_rate
from prune_search.recipe.recipe import Recipe
from prune_search.recipe.registry import REQUIRED

CLASSES = 10
SAMPLES = 50
# Where the error begins to grow for the best recipe, as a density.
KNEE = 0.02
GAMMA = 1.2
# By how many e-folds each choice moves that place to the dense end.
EARLY_MASK, EARLY_MASK_WITH_DATA, MOVED = 1.4, 0.9, 0.4
EARLY_WEIGHTS, STABLE_AT = 1.0, 0.05
LATE_CLOCK, LOW_RATE, USUAL_RATE = 1.2, 0.8, 0.3
SHORT, SHORT_STEPS = 0.8, 0.15
ONE_SHOT, STRUCTURED, CONTROL = 1.0, 1.2, 1.3
UNDERTRAINED, BUDGET, BUDGET_EPOCHS, WRONG_RATE = 0.25, 0.3, 10.0, 0.02


class Round(Protocol):
    """One round of one recipe.

    Attributes:
        recipe: canonical.
        timeline: its places in iterations.
        number: r, from 1.
        density: kept share of the weights after the round, 0 … 1.
        removed: share of the weights left before the round that the round removes, 0 … 1.
    """

    @property
    def recipe(self) -> Recipe: ...
    @property
    def timeline(self) -> Timeline: ...
    @property
    def number(self) -> int: ...
    @property
    def density(self) -> float: ...
    @property
    def removed(self) -> float: ...


def expected_error(point: Round, error: float, heat: float) -> tuple[float, float, float]:
    """The expected error of the network that a round ends with.

    Args:
        point: the round.
        error: of the dense network after a long training, 0 … 0.5.
        heat: mean learning rate of the retraining over the peak (`mean_rate`).

    Returns:
        The error without pruning at the same training (e₀), with it (e), and where nothing is learned (e↑).
    """
    top = 1 - 1 / _classes(point.recipe)
    dense = min(_dense_error(point, error), top)
    base = min(dense + UNDERTRAINED * max(0.0, 1 - taken_at(point) - _length(point)) ** 2, top)
    return base, error_at(point.density, base, top, KNEE * math.exp(_shift(point, heat))), top


def _dense_error(point: Round, error: float) -> float:
    line, recipe = point.timeline, point.recipe
    usual = recipe.optimizer.entry(axes.OPTIMIZERS).options["lr"].default
    rate = base_rate(recipe.optimizer)
    wrong = 0.0 if usual is REQUIRED or not usual or rate <= 0 else math.log10(rate / usual) ** 2
    return error + BUDGET * 2 ** (-line.total / line.epoch / BUDGET_EPOCHS) + WRONG_RATE * wrong


def error_at(density: float, dense: float, top: float, knee: float) -> float:
    """The error of a pruned network (Rosenfeld et al. 2021, 2006.10621).

    Args:
        density: kept share, 0 … 1.
        dense: error of the dense network, above 0.
        top: error of a network that has learned nothing, at least `dense`.
        knee: density at which the error begins to grow, above 0.

    Example:
        >>> [round(error_at(density, 0.1, 0.9, 0.05), 3) for density in (1.0, 0.05, 0.01, 0.0)]
        [0.1, 0.149, 0.525, 0.9]
    """
    high = (top / dense) ** (1 / GAMMA)
    low = knee / high
    return float(dense * ((density**2 + (low * high) ** 2) / (density**2 + low**2)) ** (GAMMA / 2))


def mean_rate(point: Round) -> float:
    """Mean learning rate of the retraining over the peak of the training; 0 without a retraining."""
    line = point.timeline
    rate = train_rate(point.recipe, line.epoch)
    peak = max((rate(step) for step in _sampled(line.total)), default=0.0)
    found = [line.rate(step) for step in _sampled(line.retrain_steps)]
    return min(1.0, sum(found) / len(found) / peak) if found and peak > 0 else 0.0


def _sampled(steps: int) -> range:
    return range(0, steps, max(1, steps // SAMPLES))


def _classes(recipe: Recipe) -> int:
    return recipe.task.source.classes or CLASSES


def taken_at(point: Round) -> float:
    """u2."""
    line = point.timeline
    return 1.0 if line.k2 is None else line.k2 / line.total if line.total else 0.0


def _length(point: Round) -> float:
    """L."""
    line = point.timeline
    return line.retrain_steps / line.total if line.total else float(line.retrain_steps > 0)


def _shift(point: Round, heat: float) -> float:
    """ln of the knee over that of the best recipe."""
    recipe, line = point.recipe, point.timeline
    found_at = line.k1 / line.total if line.total else 0.0
    needs_data = recipe.mask.criterion.entry(axes.CRITERIA).facts.needs_data
    mask = (EARLY_MASK_WITH_DATA if needs_data else EARLY_MASK) * (1 - found_at) ** 2
    if recipe.retrain is not None and recipe.retrain.dynamics is not None:
        mask *= MOVED
    if recipe.mask.control is not None and point.number == recipe.rounds:
        mask += CONTROL * found_at
    taken = taken_at(point)
    clock = 1.0 if line.clock is None else line.clock / line.total if line.total else 0.0
    granularity = recipe.mask.granularity.entry(axes.GRANULARITIES)
    return (
        mask
        + EARLY_WEIGHTS * found_at * (max(0.0, STABLE_AT - taken) / STABLE_AT) ** 2
        + LATE_CLOCK * max(0.0, clock - taken) ** 2
        + LOW_RATE * max(0.0, 1 - heat / USUAL_RATE) ** 2
        + SHORT * 2 ** (-_length(point) / SHORT_STEPS)
        + ONE_SHOT * point.removed**2
        + (STRUCTURED if granularity.facts.structured else 0.0)
    )
