"""A surface in closed form: published findings about pruning as one smooth formula."""

from __future__ import annotations

from dataclasses import dataclass

from prune_search.recipe.axes import SURFACES
from prune_search.recipe.fields import Number
from prune_search.recipe.recipe import Recipe
from prune_search.recipe.registry import Option
from prune_search.search.expected_error import expected_error, mean_rate, taken_at
from prune_search.simulation.surface import FAULTS, Outlook, SurfacePoint, normal

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
        base, error, top = expected_error(point, self.error, heat)
        lost = (error - base) / (top - base) if top > base else 0.0
        deviation = self.noise * DEVIATION * (1 + GROWTH * lost)
        truth = 1 - error
        accuracy = min(1.0, max(0.0, truth + deviation * normal(point.address, "end")))
        kept = taken_at(point) * point.density**0.25
        start = accuracy - (accuracy - (1 - top)) * (1 - kept)
        return Outlook(truth, accuracy, min(accuracy, start), 0.05 + 0.25 * heat, deviation)
