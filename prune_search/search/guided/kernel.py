"""What networks have in common: the kernels of the mixture, for all pairs of networks at once."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TypeAlias

import numpy
from numpy.typing import NDArray
from scipy.special import ndtr
from scipy.stats import norm, qmc

Array: TypeAlias = NDArray[numpy.float64]
Array32: TypeAlias = NDArray[numpy.float32]
Rows: TypeAlias = NDArray[numpy.int64]

MEMBERS = 32
# Variance, over a member's own, of the level that all networks have in common: it is learned.
COMMON = 100.0
# Median deviation of a measurement's noise over the surface's.
NOISE = 0.4
# Depths that are told apart where a common level is taken off.
LEVELS = 24
ROOT5 = numpy.float32(5**0.5)


@dataclass(frozen=True)
class Nodes:
    """Networks, measured or not, one row each.

    Attributes:
        numbers: [n, D], on 0 … 1.
        kinds: [n, C], codes of choices.
        depth: [n], how sparse the network is on a log scale: 0 dense, 1 the sparsest; all equal where that is fixed.
        branch: [n], equal for the networks of one recipe.
        prior: [n], prior mean of the target, or None.
    """

    numbers: Array
    kinds: NDArray[numpy.int64]
    depth: Array
    branch: NDArray[numpy.int64]
    prior: Array | None = None


@dataclass(frozen=True)
class Member:
    """Hyperparameters of one Gaussian process; deviations are over that of the surface.

    Attributes:
        lengths: of each number, in its own range.
        kinds: of each choice, in how unlike two options are.
        level: length, along the depth, of what all recipes of one depth have in common.
        base: deviation of the same.
        fan: by how many e-folds the deviation grows from dense to the sparsest.
        noise: deviation of a measurement.
        own: deviation of what only one recipe has.
        additive: share of the kernel that is a mean of one-dimensional ones; the rest is their product.
        depth: length along the depth of what tells recipes apart.
        ranked: whether numbers count by their ranks.
        guided: whether it takes the prior.
    """

    lengths: Array
    kinds: Array
    level: float
    base: float
    fan: float
    noise: float
    own: float
    additive: float
    depth: float
    ranked: bool
    guided: bool


@lru_cache(maxsize=64)
def members(numbers: int, kinds: int, guided: bool) -> tuple[Member, ...]:
    """The members for so many numbers and choices; where there is no prior, none takes it."""
    shares = qmc.Sobol(numbers + kinds + 7, seed=0).random(MEMBERS)
    found = []
    for place, row in enumerate(norm.ppf(numpy.clip(shares, 1e-3, 1 - 1e-3))):
        rest = row[numbers + kinds :]
        found.append(
            Member(
                lengths=0.8 * numpy.exp(row[:numbers]),
                kinds=0.8 * numpy.exp(0.6 * row[numbers : numbers + kinds]),
                level=float(0.7 * numpy.exp(0.4 * rest[0])),
                base=float(2.0 * numpy.exp(0.5 * rest[1])),
                fan=float(1.2 * numpy.exp(0.6 * rest[2])),
                noise=float(NOISE * numpy.exp(0.5 * rest[3])),
                own=float(0.2 * numpy.exp(0.5 * rest[4])),
                additive=float(ndtr(rest[5])),
                depth=float(numpy.exp(0.5 * rest[6])),
                ranked=place // 2 % 2 == 1,
                guided=guided and place % 2 == 0,
            )
        )
    return tuple(found)


@dataclass(frozen=True)
class Kernel:
    """The nodes as the members' kernels see them; columns that are the same everywhere are left out.

    Attributes:
        plain: [D, n], numbers.
        ranked: [D, n], the same by their ranks.
        kinds: [C, n].
        depth: [n].
        branch: [n].
    """

    plain: Array32
    ranked: Array32
    kinds: Rows
    depth: Array
    branch: Rows

    @classmethod
    def of(cls, nodes: Nodes) -> Kernel:
        """The kernels' view of nodes."""
        numbers = nodes.numbers[:, numpy.ptp(nodes.numbers, axis=0) > 0]
        kinds = nodes.kinds[:, numpy.ptp(nodes.kinds, axis=0) > 0]
        plain, ranked = (numpy.ascontiguousarray(table.T, numpy.float32) for table in (numbers, _ranks(numbers)))
        return cls(plain, ranked, numpy.ascontiguousarray(kinds.T), nodes.depth, nodes.branch)

    @property
    def deepens(self) -> bool:
        """Whether networks differ in how sparse they are."""
        return bool(numpy.ptp(self.depth) > 0)

    def variance(self, one: Member) -> Array:
        """[n], of each node."""
        if not self.deepens:
            return numpy.full(len(self.depth), 1 + one.own**2 + COMMON)
        return numpy.exp(2 * one.fan * (self.depth - 1)) * (1 + one.own**2) + one.base**2 + COMMON

    def pairs(self, left: Rows, right: Rows) -> Pairs:
        """[p] pairs of nodes, for every member alike."""
        unlike = numpy.not_equal(self.kinds[:, left], self.kinds[:, right]).astype(numpy.float32)
        plain, ranked = (numpy.abs(table[:, left] - table[:, right]) for table in (self.plain, self.ranked))
        depth = self.depth[left], self.depth[right]
        apart = numpy.abs(depth[0] - depth[1]).astype(numpy.float32)
        same = (self.branch[left] == self.branch[right]).astype(numpy.float32)
        return Pairs(plain, ranked, unlike, apart, (depth[0] + depth[1]).astype(numpy.float32), same, self.deepens)


@dataclass(frozen=True)
class Pairs:
    """How unlike the nodes of each pair are.

    Attributes:
        plain: [D, p], distances of the numbers.
        ranked: [D, p], of their ranks.
        unlike: [C, p], 1 where the choices differ.
        apart: [p], distance of the depths.
        depths: [p], sum of the depths.
        same: [p], 1 for networks of one recipe.
        deepens: whether networks differ in how sparse they are.
    """

    plain: Array32
    ranked: Array32
    unlike: Array32
    apart: Array32
    depths: Array32
    same: Array32
    deepens: bool

    def covariance(self, one: Member) -> Array:
        """[p], over the member's variance, without the slope of a prior."""
        found = self._alike(one)
        if not self.deepens:
            return numpy.asarray(found + numpy.float32(one.own**2) * self.same, dtype=numpy.float64) + COMMON
        # Recipes fan out as their networks get sparser, around a curve that all have in common.
        found *= matern(self.apart * numpy.float32(1 / one.depth))
        found += numpy.float32(one.own**2) * self.same
        found *= numpy.exp(numpy.float32(one.fan) * (self.depths - 2))
        found += numpy.float32(one.base**2) * matern(self.apart * numpy.float32(1 / one.level))
        return numpy.asarray(found, dtype=numpy.float64) + COMMON

    def _alike(self, one: Member) -> Array32:
        """All interactions at once, and the main effects."""
        count = len(one.lengths) + len(one.kinds)
        product = numpy.ones(self.apart.shape, numpy.float32)
        total = numpy.zeros(self.apart.shape, numpy.float32)
        if not count:
            return product
        for distance, length in zip(self.ranked if one.ranked else self.plain, one.lengths, strict=True):
            alike = matern(distance * numpy.float32(1 / length))
            product *= alike
            total += alike
        for unlike, length in zip(self.unlike, one.kinds, strict=True):
            alike = 1 - unlike * numpy.float32(1 - numpy.exp(-1 / length))
            product *= alike
            total += alike
        product *= numpy.float32(1 - one.additive)
        total *= numpy.float32(one.additive / count)
        product += total
        return product


def matern(ratio: Array32) -> Array32:
    """Matérn-5/2 of distances over a length (Rasmussen & Williams 2006, eq. 4.17)."""
    scaled = ratio * ROOT5
    found = scaled * numpy.float32(1 / 3)
    found += 1
    found *= scaled
    found += 1
    numpy.negative(scaled, out=scaled)
    found *= numpy.exp(scaled, out=scaled)
    return found


def _ranks(values: Array) -> Array:
    """Each column by the place of its value among the distinct ones, 0 … 1."""
    found = numpy.empty_like(values)
    for column in range(values.shape[1]):
        distinct, place = numpy.unique(numpy.round(values[:, column], 9), return_inverse=True)
        found[:, column] = place / max(1, len(distinct) - 1)
    return found


def within_depths(values: Array, depth: Array) -> Array:
    """What is expected less its mean at each depth: its slope is learned, and the common level besides."""
    distinct, place = numpy.unique(numpy.round(depth, 9), return_inverse=True)
    if len(distinct) > LEVELS:
        _, place = numpy.unique(numpy.round(depth * LEVELS), return_inverse=True)
    sums = numpy.bincount(place, weights=values)
    return numpy.asarray(values - (sums / numpy.bincount(place))[place], dtype=numpy.float64)
