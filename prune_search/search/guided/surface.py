"""A smooth surface through measured networks, by which figures of other networks are foretold.

A few Gaussian processes whose hyperparameters are given, weighted by their marginal likelihood: what one search
measured is computed once and asked often.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy

from prune_search.search.guided.features import SPARSEST, WIDE, Network
from prune_search.search.guided.kernel import COMMON, NOISE, Array, matern

# Lengths of numbers over their range, and shares of the kernel that are a mean of one-dimensional ones.
LENGTHS, ADDITIVE = (0.3, 0.7, 1.5), (0.2, 0.8)
# How unlike two options of a choice are, and how far beyond what was measured a number counts.
UNLIKE, BEYOND = 0.7, 0.25
# Deviations over that of the surface: of the common curve along the depth, and of what one recipe has alone.
BASE, OWN, FAN = 2.0, 0.2, 1.2
# Networks that are looked at together.
TOGETHER = 256
# Guess of the surface's variance, and how many measurements it is worth.
SCALE, GUESSED = 0.15**2, 6.0


@dataclass(frozen=True)
class _Columns:
    """How networks are placed: by what those that were measured differ in.

    Attributes:
        numbers: by name, the lowest and the highest, and whether they are compared by their logarithms.
        kinds: names of choices.
        deepest: -log(density) of the sparsest; 0 where densities are the same or unknown.
    """

    numbers: Mapping[str, tuple[float, float, bool]]
    kinds: tuple[str, ...]
    deepest: float

    @classmethod
    def of(cls, networks: Sequence[Network]) -> _Columns:
        numbers: dict[str, tuple[float, float, bool]] = {}
        for name in sorted({name for one in networks for name in one.numbers}):
            values = [one.numbers[name] for one in networks if name in one.numbers]
            low, high = min(values), max(values)
            if high > low:
                wide = low > 0 and high / low >= WIDE
                numbers[name] = (math.log(low), math.log(high), True) if wide else (low, high, False)
        names = sorted({name for one in networks for name in one.kinds})
        kinds = tuple(name for name in names if len({one.kinds.get(name, "") for one in networks}) > 1)
        depths = {_depth(one) for one in networks}
        return cls(numbers, kinds, max(depths) if len(depths) > 1 else 0.0)

    def placed(self, networks: Sequence[Network]) -> tuple[Array, list[list[str]], Array]:
        """[n, D] numbers, [n][C] choices and [n] depths."""
        table = [[self._number(name, one.numbers.get(name)) for name in self.numbers] for one in networks]
        kinds = [[one.kinds.get(name, "") for name in self.kinds] for one in networks]
        depths = [_depth(one) / self.deepest if self.deepest else 0.0 for one in networks]
        return numpy.array(table).reshape(len(networks), len(self.numbers)), kinds, numpy.array(depths)

    def _number(self, name: str, value: float | None) -> float:
        low, high, wide = self.numbers[name]
        if value is None or (wide and value <= 0):
            return 0.5
        share = ((math.log(value) if wide else value) - low) / (high - low)
        return min(max(share, -BEYOND), 1 + BEYOND)


def _depth(one: Network) -> float:
    return 0.0 if one.density is None else -math.log(max(one.density, SPARSEST))


@dataclass(frozen=True)
class Surface:
    """What was measured, and what follows for other networks.

    Attributes:
        columns: how networks are placed.
        known: the measured ones, placed.
        level: mean of what was measured.
        weights: [m], of the processes.
        answers: [m, s], each process's covariances over what was measured, solved for it.
    """

    columns: _Columns
    known: tuple[Array, list[list[str]], Array]
    level: float
    weights: Array
    answers: Array

    @classmethod
    def of(cls, networks: Sequence[Network], values: Array) -> Surface:
        """Through measured networks.

        Args:
            networks: s of them.
            values: [s], on a scale on which the noise is about the same everywhere; larger is better.
        """
        columns = _Columns.of(networks)
        known, level = columns.placed(networks), float(values.mean())
        owners = [one.owner for one in networks]
        same = numpy.array([[one == other for other in owners] for one in owners], dtype=numpy.float64)
        logs, answers = [], []
        for covariance in _covariances(known, known, same):
            matrix = covariance + NOISE**2 * numpy.eye(len(values))
            answer = numpy.linalg.solve(matrix, values - level)
            square = SCALE * GUESSED / 2 + float((values - level) @ answer) / 2
            determinant = float(numpy.linalg.slogdet(matrix)[1])
            logs.append(-determinant / 2 - (GUESSED + len(values)) / 2 * math.log(square))
            answers.append(answer)
        weights = numpy.exp(numpy.array(logs) - max(logs))
        return cls(columns, known, level, weights / weights.sum(), numpy.array(answers))

    def at(self, networks: Sequence[Network]) -> Array:
        """[networks], what is expected of each: the same bits whatever else is asked."""
        parts = [self._at(networks[first : first + TOGETHER]) for first in range(0, len(networks), TOGETHER)]
        return numpy.concatenate([numpy.zeros(0), *parts])

    def _at(self, networks: Sequence[Network]) -> Array:
        placed = self.columns.placed(networks)
        none = numpy.zeros((len(networks), self.answers.shape[1]))
        found = numpy.full(len(networks), self.level)
        # Sums along rows, since the bits of a matrix product depend on how many rows there are.
        for weight, kernel, answer in zip(
            self.weights, _covariances(placed, self.known, none), self.answers, strict=True
        ):
            found += weight * (kernel * answer).sum(1)
        return found


def _covariances(
    left: tuple[Array, list[list[str]], Array], right: tuple[Array, list[list[str]], Array], same: Array
) -> list[Array]:
    """[left, right] for every process, over the surface's variance."""
    apart = numpy.abs(left[0][:, None, :] - right[0][None, :, :])
    kinds = numpy.array(left[1], dtype=object).reshape(len(left[2]), -1)
    others = numpy.array(right[1], dtype=object).reshape(len(right[2]), -1)
    unlike = (kinds[:, None, :] != others[None, :, :]).astype(numpy.float64)
    depths = numpy.abs(left[2][:, None] - right[2][None, :])
    fan = numpy.exp(FAN * (left[2][:, None] + right[2][None, :] - 2))
    if not numpy.ptp(right[2]):
        fan = numpy.ones_like(fan)
    found = []
    for length, additive in product(LENGTHS, ADDITIVE):
        alike = numpy.concatenate([_matern(apart / length), 1 - UNLIKE * unlike], axis=2)
        count = alike.shape[2]
        kernel = (1 - additive) * alike.prod(2) + additive * (alike.mean(2) if count else 1.0)
        kernel = fan * (kernel * _matern(depths) + OWN**2 * same)
        found.append(kernel + BASE**2 * _matern(depths / 0.7) + COMMON)
    return found


def _matern(ratio: Any) -> Array:
    return numpy.asarray(matern(numpy.asarray(ratio, dtype=numpy.float32)), dtype=numpy.float64)
