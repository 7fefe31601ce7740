"""A surface in closed form: published findings about pruning as one smooth formula."""

from __future__ import annotations

import math
from dataclasses import dataclass

from prune_search.recipe import axes
from prune_search.recipe.axes import SURFACES
from prune_search.recipe.clock import base_rate, train_rate
from prune_search.recipe.fields import Number
from prune_search.recipe.recipe import Recipe
from prune_search.recipe.registry import REQUIRED, Option
from prune_search.simulation.surface import FAULTS, Outlook, SurfacePoint, normal

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
# Deviation over seeds: of the dense network, and how much it grows to where nothing is learned.
DEVIATION, GROWTH = 0.002, 8.0


@SURFACES.register(
    "closed-form",
    summary=(
        "a formula modelled on published findings: a knee per paradigm, learning curves, noise that grows with sparsity"
    ),
    source="Rosenfeld et al. 2021, 2006.10621; Frankle et al. 2020, 1912.05671; Renda et al. 2020, 2003.02389",
    options={
        "error": Option(Number(0.0, 0.5, above=True), 0.06, "error of the dense network after a long training, 0…0.5"),
        "noise": Option(
            Number(0.0, 100.0),
            1.0,
            "noise over seeds; 1 means a deviation of 0.2 points if dense, up to 1.8 if nearly everything is pruned",
        ),
        **FAULTS,
    },
)
@dataclass(frozen=True)
class ClosedForm:
    r"""Accuracy as a formula of (k1, k2, clock, sparsity, rounds, paradigm, training budget, seed).

    With u1 = k1/K, u2 = k2/K (1 for ``end``), c = clock/K (u1 for ``mask``, 1 where the rate is held), L = retraining
    steps / K, d the density after the round, q the share of the weights left before it that the round removes, ρ the
    mean learning rate of the retraining over the peak of the training, [x]₊ = max(0, x):

        e_dense = error + 0.3 · 2^(-K/10 epochs) + 0.02 · log10(rate / the optimizer's default rate)²
        e₀      = e_dense + 0.25 · [1 - u2 - L]₊²                      too little training since w(k2)
        ln d₀   = ln 0.02 + M + E + 1.2 [c - u2]₊² + 0.8 [1 - ρ/0.3]₊² + 0.8 · 2^(-L/0.15) + q² + 1.2 (structured)
          M = 1.4 (1 - u1)², 0.9 (1 - u1)² where the criterion needs data; times 0.4 where a dynamics moves the mask;
              plus 1.3 u1 under a control                              early masks are worse; a shuffled late one too
          E = u1 · [0.05 - u2]₊² / 0.05²                               rewound to before training is stable
        e(d)    = e₀ · ((d² + p² (e↑/e₀)^(2/γ)) / (d² + p²))^(γ/2)
          p = d₀ (e↑/e₀)^(-1/γ), γ = 1.2, e↑ = 1 - 1/classes

    The last line is the error of pruned networks of Rosenfeld et al. 2021 (2006.10621, section 4): flat above the knee
    d₀ (there 1.5 e₀), a power law below it, chance at the end. A measurement at the end of a round is 1 - e(d) plus
    normal noise of deviation noise · 0.002 · (1 + 8 (e - e₀)/(e↑ - e₀)), drawn from the round's content address and the
    seed in it. The retraining begins at error e + (e↑ - e) · (1 - u2 d^(1/4)) and regains it with a half-life of
    0.05 + 0.25 ρ of its length: a high rate is slower and ends higher. Nothing of this is fitted to data.

    The optimum of a space is computed by `search.optimum.optimum`; with everything free but d it is known: u1 = 1,
    u2 from 0.05, c ≤ u2, ρ ≥ 0.3, L = 1, q → 0.
    """

    error: float
    noise: float
    failing: float
    dying: float

    @property
    def content(self) -> str:
        """It reads nothing."""
        return ""

    def check(self, recipe: Recipe) -> None:
        """It says something about every recipe."""

    def outlook(self, point: SurfacePoint) -> Outlook:
        """How a round goes."""
        heat = mean_rate(point)
        top = 1 - 1 / _classes(point.recipe)
        dense = min(self._dense_error(point), top)
        base = min(dense + UNDERTRAINED * max(0.0, 1 - _taken_at(point) - _length(point)) ** 2, top)
        error = error_at(point.density, base, top, KNEE * math.exp(_shift(point, heat)))
        lost = (error - base) / (top - base) if top > base else 0.0
        deviation = self.noise * DEVIATION * (1 + GROWTH * lost)
        truth = 1 - error
        accuracy = min(1.0, max(0.0, truth + deviation * normal(point.address, "end")))
        kept = _taken_at(point) * point.density**0.25
        start = accuracy - (accuracy - (1 - top)) * (1 - kept)
        return Outlook(truth, accuracy, min(accuracy, start), 0.05 + 0.25 * heat, deviation)

    def _dense_error(self, point: SurfacePoint) -> float:
        line, recipe = point.timeline, point.recipe
        usual = recipe.optimizer.entry(axes.OPTIMIZERS).options["lr"].default
        rate = base_rate(recipe.optimizer)
        wrong = 0.0 if usual is REQUIRED or not usual or rate <= 0 else math.log10(rate / usual) ** 2
        return self.error + BUDGET * 2 ** (-line.total / line.epoch / BUDGET_EPOCHS) + WRONG_RATE * wrong


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


def mean_rate(point: SurfacePoint) -> float:
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


def _taken_at(point: SurfacePoint) -> float:
    """u2."""
    line = point.timeline
    return 1.0 if line.k2 is None else line.k2 / line.total if line.total else 0.0


def _length(point: SurfacePoint) -> float:
    """L."""
    line = point.timeline
    return line.retrain_steps / line.total if line.total else float(line.retrain_steps > 0)


def _shift(point: SurfacePoint, heat: float) -> float:
    """ln of the knee over that of the best recipe."""
    recipe, line = point.recipe, point.timeline
    found_at = line.k1 / line.total if line.total else 0.0
    needs_data = recipe.mask.criterion.entry(axes.CRITERIA).facts.needs_data
    mask = (EARLY_MASK_WITH_DATA if needs_data else EARLY_MASK) * (1 - found_at) ** 2
    if recipe.retrain is not None and recipe.retrain.dynamics is not None:
        mask *= MOVED
    if recipe.mask.control is not None and point.number == recipe.rounds:
        mask += CONTROL * found_at
    taken = _taken_at(point)
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
