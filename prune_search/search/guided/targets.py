"""Figures of metrics on the scale on which they are modelled, and back to what a goal says of them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy

from prune_search.recipe.metric_names import is_share
from prune_search.search.guided.features import FLOOR
from prune_search.search.guided.kernel import Array

LEAST = 1e-12


@dataclass(frozen=True)
class Target:
    """A metric's scale: larger is better on it. Monotone, so that a bound is a bound there too.

    Attributes:
        scaled: from a figure.
        figure: back from that scale.
        is_error: whether it is -log(error) or -log(loss), which the prior speaks of.
    """

    scaled: Callable[[float], float]
    figure: Callable[[float], float]
    is_error: bool

    @classmethod
    def of(cls, metric: str, direction: str, figures: Sequence[float]) -> Target:
        """The scale of a metric.

        A share of which more is better counts by -log(1 - share + 0.003), on which the noise is about the same
        everywhere; figures above 0 by their logarithms; others by how many deviations they lie from the mean.

        Args:
            metric: its name.
            direction: maximize or minimize.
            figures: what was measured so far, finite.
        """
        sign = 1.0 if direction == "maximize" else -1.0
        if sign > 0 and is_share(metric):
            return cls(
                lambda value: -math.log(max(1 - value, 0.0) + FLOOR),
                lambda scaled: min(1.0, max(0.0, 1 + FLOOR - math.exp(-scaled))),
                True,
            )
        if figures and min(figures) > 0:
            return cls(
                lambda value: sign * math.log(max(value, LEAST)),
                lambda scaled: math.exp(sign * scaled),
                sign < 0 and metric.startswith("val/"),
            )
        mean = float(numpy.mean(figures)) if figures else 0.0
        deviation = float(numpy.std(figures)) if len(figures) > 1 else 1.0
        # As far apart as the surrogate guesses errors to be.
        unit = (deviation or 1.0) / 0.3
        return cls(lambda value: sign * (value - mean) / unit, lambda scaled: mean + sign * scaled * unit, False)

    def all(self, figures: Sequence[float]) -> Array:
        """Of several figures."""
        return numpy.array([self.scaled(figure) for figure in figures])
