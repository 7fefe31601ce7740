"""Medians over problems of regrets and of their ratios to chance, with intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy
from numpy.typing import NDArray

Array = NDArray[numpy.float64]
RESAMPLED, CHANCE = 2000, "random"


@dataclass(frozen=True)
class Interval:
    """A figure and the middle 95 % of what it is when problems and seeds are drawn again."""

    middle: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.middle:.2f} ({self.low:.2f} … {self.high:.2f})"


def medians(regrets: Sequence[Mapping[str, Array]], line: str, over_chance: bool) -> list[Interval]:
    """Median over problems of a line's mean regret at each budget, or of its ratio to that of chance.

    Problems and seeds are drawn again together (percentile bootstrap); a seed is the same one in both lines, unless
    there are more seeds of chance.

    Args:
        regrets: by problem and line, [seeds, budgets].
        line: of which.
        over_chance: whether each mean is divided by that of random search on the same problem.
    """
    draw = numpy.random.default_rng(0)
    whole = _means(regrets, line, over_chance, None, draw)
    again = [_means(regrets, line, over_chance, len(regrets), draw) for _ in range(RESAMPLED)]
    low, high = numpy.quantile(again, (0.025, 0.975), axis=0)
    return [Interval(*figures) for figures in zip(whole.tolist(), low.tolist(), high.tolist(), strict=True)]


def _means(
    regrets: Sequence[Mapping[str, Array]],
    line: str,
    over_chance: bool,
    drawn: int | None,
    draw: numpy.random.Generator,
) -> Array:
    places = range(len(regrets)) if drawn is None else draw.integers(len(regrets), size=drawn)
    found = []
    for place in places:
        mine, chance = regrets[place][line], regrets[place][CHANCE]
        seeds = numpy.arange(len(mine)) if drawn is None else draw.integers(len(mine), size=len(mine))
        others = seeds
        if len(chance) != len(mine):
            others = numpy.arange(len(chance)) if drawn is None else draw.integers(len(chance), size=len(chance))
        mean = mine[seeds].mean(0)
        found.append(mean / numpy.maximum(chance[others].mean(0), 1e-3) if over_chance else mean)
    return numpy.asarray(numpy.median(found, axis=0), dtype=numpy.float64)
