"""What networks have in common: the kernels of the mixture, for all pairs of networks at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, TypeAlias

import numpy
from numpy.typing import NDArray

Array: TypeAlias = NDArray[numpy.float64]
Array32: TypeAlias = NDArray[numpy.float32]
Rows: TypeAlias = NDArray[numpy.int64]

# Of few measurements, of which each costs little, and of many.
MEMBERS, OF_MANY, FEW = 128, 32, 80
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
        learned: [n] each, what earlier searches let one expect of the target: further prior means.
        worsens: whether sparser networks are expected to be worse, where there is no prior to say so.
    """

    numbers: Array
    kinds: NDArray[numpy.int64]
    depth: Array
    branch: NDArray[numpy.int64]
    prior: Array | None = None
    worsens: bool = False
    learned: tuple[Array, ...] = ()


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
        earlier: which of the earlier searches' prior means it takes, from 0; -1: none.
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
    earlier: int = -1

    @property
    def source(self) -> int:
        """Where its prior mean comes from: 0 nowhere, 1 the prior, 2 and above earlier searches."""
        return 2 + self.earlier if self.earlier >= 0 else int(self.guided)


@lru_cache(maxsize=64)
def members(numbers: int, kinds: int, guided: bool, count: int = MEMBERS) -> tuple[Member, ...]:
    """The members for so many numbers and choices; where there is no prior, none takes it.

    Args:
        numbers: how many numbers tell networks apart.
        kinds: how many choices.
        guided: whether there is a prior.
        count: of the members, a power of 2; the first ones are the same for every count.
    """
    from scipy.special import ndtr, ndtri
    from scipy.stats import qmc

    shares = qmc.Sobol(numbers + kinds + 7, seed=0).random(count)
    found = []
    for place, row in enumerate(ndtri(numpy.clip(shares, 1e-3, 1 - 1e-3))):
        rest = row[numbers + kinds :]
        found.append(
            Member(
                lengths=0.8 * numpy.exp(row[:numbers]),
                kinds=0.8 * numpy.exp(0.6 * row[numbers : numbers + kinds]),
                level=float(0.7 * numpy.exp(0.4 * rest[0])),
                base=float(2.0 * numpy.exp(0.5 * rest[1])),
                # What goes wrong in training (a rate, say) is as bad for dense networks as for sparse ones.
                fan=float(1.2 * numpy.exp(0.6 * rest[2])) if place // 4 % 3 else 0.0,
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
class Bank:
    """Members, stacked: see `Member`.

    Attributes:
        one: the members.
        lengths: [m, D].
        kinds: [m, C].
    """

    one: tuple[Member, ...]
    lengths: Array32
    kinds: Array32

    @classmethod
    def of(cls, one: Sequence[Member]) -> Bank:
        """Stack members."""
        lengths, kinds = ([getattr(member, name) for member in one] for name in ("lengths", "kinds"))
        return cls(tuple(one), numpy.array(lengths, numpy.float32), numpy.array(kinds, numpy.float32))

    def column(self, name: str) -> Array32:
        """[m, 1], one hyperparameter of all members."""
        return numpy.array([[getattr(member, name)] for member in self.one], numpy.float32)


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
        """[left · right] every node on the left with every node on the right."""
        count = len(left) * len(right)

        def apart(table: Array32) -> Array32:
            found = table[:, left][:, :, None] - table[:, right][:, None, :]
            distances: Array32 = numpy.abs(found, out=found).reshape(len(table), count)
            return distances

        def outer(values: NDArray[Any], join: Callable[..., NDArray[Any]]) -> Array32:
            found = join(values[left][:, None], values[right][None, :])
            return numpy.asarray(found, dtype=numpy.float32).reshape(count)

        unlike = (self.kinds[:, left][:, :, None] != self.kinds[:, right][:, None, :]).astype(numpy.float32)
        return Pairs(
            apart(self.plain),
            apart(self.ranked),
            unlike.reshape(len(self.kinds), count),
            numpy.abs(outer(self.depth, numpy.subtract)),
            outer(self.depth, numpy.add),
            outer(self.branch, numpy.equal),
            self.deepens,
        )


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

    def take(self, some: Rows) -> Pairs:
        """Some of the pairs."""
        tables = (self.plain[:, some], self.ranked[:, some], self.unlike[:, some])
        return Pairs(*tables, self.apart[some], self.depths[some], self.same[some], self.deepens)

    def covariance(self, bank: Bank) -> Array32:
        """[m, p], over each member's variance, without the slope of a prior and without `COMMON`."""
        ranked = bank.column("ranked")[:, 0] > 0
        found = numpy.empty((len(bank.one), len(self.apart)), numpy.float32)
        for which, table in ((ranked, self.ranked), (~ranked, self.plain)):
            if which.any():
                found[which] = self._alike(
                    Bank.of([one for one, this in zip(bank.one, which, strict=True) if this]), table
                )
        own = bank.column("own") ** 2
        if not self.deepens:
            found += own * self.same
            return found
        # Recipes fan out as their networks get sparser, around a curve that all have in common.
        found *= matern(self.apart / bank.column("depth"))
        found += own * self.same
        found *= numpy.exp(bank.column("fan") * (self.depths - 2))
        found += bank.column("base") ** 2 * matern(self.apart / bank.column("level"))
        return found

    def _alike(self, bank: Bank, table: Array32) -> Array32:
        """All interactions at once, and the main effects."""
        count = bank.lengths.shape[1] + bank.kinds.shape[1]
        product = numpy.ones((len(bank.one), len(self.apart)), numpy.float32)
        if not count:
            return product
        total = numpy.zeros_like(product)
        for distance, lengths in zip(table, bank.lengths.T, strict=True):
            alike = matern(distance / lengths[:, None])
            product *= alike
            total += alike
        for unlike, lengths in zip(self.unlike, bank.kinds.T, strict=True):
            alike = 1 - unlike * (1 - numpy.exp(-1 / lengths))[:, None]
            product *= alike
            total += alike
        additive = bank.column("additive")
        product *= 1 - additive
        total *= additive / numpy.float32(count)
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
