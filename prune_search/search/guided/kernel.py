"""What networks have in common: the kernels of the mixture, for all pairs of networks at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import TypeAlias

import numpy
from numpy.typing import NDArray

Array: TypeAlias = NDArray[numpy.float64]
Array32: TypeAlias = NDArray[numpy.float32]
Rows: TypeAlias = NDArray[numpy.int64]

# Of few measurements, of which each costs little, and of many.
MEMBERS, OF_MANY, FEW = 128, 32, 80
# Of the members that could take the prior, one in so many takes an earlier search's surface too.
EVERY = 2
# Variance, over a member's own, of the level that all networks have in common: it is learned.
COMMON = 100.0
# Median deviations over the surface's: of a measurement's noise, of what is a recipe's own, and of a training's luck.
NOISE, OWN, LUCK = 0.4, 0.2, 0.7
ROOT5 = numpy.float32(5**0.5)


@dataclass(frozen=True)
class Nodes:
    """Networks, measured or not, as `Frame.rows` makes them.

    Attributes:
        numbers: [D, n], on 0 … 1.
        ranked: [D, n], the same by their ranks.
        kinds: [C, n], codes of choices.
        depth: [n], how sparse the network is on a log scale: 0 dense, 1 the sparsest; all equal where that is fixed.
        branch: [n], equal for the networks of one recipe.
        prior: [n], prior mean of the target, or None.
        better: [n], the same, less its mean over the networks that are as sparse.
        longer: [n], logarithm of the steps up to the network, less its mean likewise.
        learned: [k, n], what each of k earlier searches lets one expect of the target: further prior means.
        ahead: [k, n], the same, less its mean likewise.
    """

    numbers: Array32
    ranked: Array32
    kinds: Rows
    depth: Array
    branch: Rows
    prior: Array | None
    better: Array
    longer: Array
    learned: Array
    ahead: Array

    def __len__(self) -> int:
        """How many networks there are."""
        return len(self.depth)

    def take(self, some: Rows | slice) -> Nodes:
        """Some of them."""
        prior = None if self.prior is None else self.prior[some]
        numbers, ranked, kinds = self.numbers[:, some], self.ranked[:, some], self.kinds[:, some]
        expected = self.better[some], self.longer[some], self.learned[:, some], self.ahead[:, some]
        return Nodes(numbers, ranked, kinds, self.depth[some], self.branch[some], prior, *expected)

    def and_(self, more: Nodes) -> Nodes:
        """Both."""
        prior = None if self.prior is None or more.prior is None else numpy.concatenate([self.prior, more.prior])
        numbers, ranked, kinds, depth, branch, better, longer, learned, ahead = (
            numpy.concatenate([getattr(self, name), getattr(more, name)], axis=-1)
            for name in ("numbers", "ranked", "kinds", "depth", "branch", "better", "longer", "learned", "ahead")
        )
        return Nodes(numbers, ranked, kinds, depth, branch, prior, better, longer, learned, ahead)


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
        luck: deviation of what all networks of one training have in common, and another training of the recipe has not.
        additive: share of the kernel that is a mean of one-dimensional ones; the rest is their product.
        depth: length along the depth of what tells recipes apart.
        ranked: whether numbers count by their ranks.
        guided: whether it takes the prior.
        lasting: whether it learns, where it takes no prior mean, what longer trainings gain.
        earlier: which of the earlier searches' prior means it takes, from 0; -1: none.
    """

    lengths: Array
    kinds: Array
    level: float
    base: float
    fan: float
    noise: float
    own: float
    luck: float
    additive: float
    depth: float
    ranked: bool
    guided: bool
    lasting: bool
    earlier: int = -1

    @property
    def source(self) -> int:
        """Where its prior mean comes from: 0 nowhere, 1 the prior, 2 and above earlier searches."""
        return 2 + self.earlier if self.earlier >= 0 else int(self.guided)


@lru_cache(maxsize=64)
def members(numbers: int, kinds: int, guided: bool, count: int = MEMBERS, searches: int = 0) -> tuple[Member, ...]:
    """The members for so many numbers and choices; where there is no prior, none takes it.

    Args:
        numbers: how many numbers tell networks apart.
        kinds: how many choices.
        guided: whether there is a prior.
        count: of the members, a power of 2; the first ones are the same for every count.
        searches: earlier ones that give prior means. For each of them there are further members, half as many as take
            the prior.
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
                own=float(OWN * numpy.exp(0.5 * rest[4])),
                # Without a prior there is little else than what was measured, and doubting it leads nowhere.
                luck=float(LUCK * numpy.exp(rest[4])) if guided else 0.0,
                additive=float(ndtr(rest[5])),
                depth=float(numpy.exp(0.5 * rest[6])),
                ranked=place // 2 % 2 == 1,
                lasting=not guided or place // 4 % 2 == 0,
                guided=guided and place % 2 == 0,
            )
        )
    some = found[:: 2 * EVERY]
    more = [replace(one, guided=False, lasting=False, earlier=place) for place in range(searches) for one in some]
    return (*found, *more)


@dataclass(frozen=True)
class Bank:
    """Members, stacked: see `Member`.

    Attributes:
        one: the members.
        deepens: whether networks differ in how sparse they are.
        lengths: [m, D].
        kinds: [m, C], how alike two options are.
    """

    one: tuple[Member, ...]
    deepens: bool
    lengths: Array32
    kinds: Array32
    _columns: dict[str, Array] = field(default_factory=dict, repr=False)

    @classmethod
    def of(cls, one: Sequence[Member], deepens: bool) -> Bank:
        """Stack members."""
        lengths, kinds = (numpy.array([getattr(member, name) for member in one]) for name in ("lengths", "kinds"))
        return cls(tuple(one), deepens, lengths.astype(numpy.float32), numpy.exp(-1 / kinds).astype(numpy.float32))

    def column(self, name: str) -> Array:
        """[m, 1, 1], one hyperparameter of all members."""
        if name not in self._columns:
            self._columns[name] = numpy.array([getattr(member, name) for member in self.one], float)[:, None, None]
        return self._columns[name]

    def variance(self, nodes: Nodes, common: float = COMMON) -> Array:
        """[m, n], of each node."""
        own, base, fan = (self.column(name)[:, 0] for name in ("own", "base", "fan"))
        if not self.deepens:
            return numpy.broadcast_to(1 + own**2 + common, (len(self.one), len(nodes)))
        level = base**2 + common if common else 0.0
        return numpy.asarray(numpy.exp(2 * fan * (nodes.depth - 1)) * (1 + own**2) + level, dtype=numpy.float64)

    def covariance(self, left: Nodes, right: Nodes) -> Array:
        """[m, left, right], over each member's variance, without the slope of a mean."""
        found = self.alike(left, right)
        own = self.column("own") ** 2 * (left.branch[:, None] == right.branch[None, :])
        if not self.deepens:
            found += own + COMMON
            return found
        # Recipes fan out as their networks get sparser, around a curve that all have in common.
        apart = numpy.abs(left.depth[:, None] - right.depth[None, :]).astype(numpy.float32)
        distinct, place = numpy.unique(apart, return_inverse=True)
        place = place.reshape(apart.shape)
        ratios: list[Array32] = [
            (distinct / self.column(name)[:, 0]).astype(numpy.float32) for name in ("depth", "level")
        ]
        near, level = matern(ratios[0]), self.column("base")[:, 0] ** 2 * matern(ratios[1])
        found *= near[:, place]
        found += own
        found *= self.fanned(left)[:, :, None]
        found *= self.fanned(right)[:, None, :]
        found += level[:, place] + COMMON
        return found

    def fanned(self, nodes: Nodes) -> Array:
        """[m, n], how far recipes differ at each node's depth, over what they do at the sparsest."""
        if not self.deepens:
            return numpy.ones((len(self.one), len(nodes)))
        return numpy.asarray(numpy.exp(self.column("fan")[:, 0] * (nodes.depth - 1)), dtype=numpy.float64)

    def luck(self, left: Nodes, right: Nodes) -> Array:
        """[m, left, right], what the figures of one training have in common besides: they err to the same side."""
        same = left.branch[:, None] == right.branch[None, :]
        found: Array = self.column("luck") ** 2 * same
        found *= self.fanned(left)[:, :, None]
        found *= self.fanned(right)[:, None, :]
        return found

    def alike(self, left: Nodes, right: Nodes) -> Array:
        """[m, left, right], how alike recipes are whose networks are as sparse, 0 … 1."""
        found = numpy.empty((len(self.one), len(left), len(right)))
        ranked = self.column("ranked")[:, 0, 0] > 0
        for which, name in ((ranked, "ranked"), (~ranked, "numbers")):
            if which.any():
                found[which] = self._alike(which, getattr(left, name), getattr(right, name), left.kinds, right.kinds)
        return found

    def _alike(
        self, which: NDArray[numpy.bool_], left: Array32, right: Array32, left_kinds: Rows, right_kinds: Rows
    ) -> Array:
        """All interactions at once, and the main effects, of some of the members."""
        shape = (int(which.sum()), left.shape[1], right.shape[1])
        count = len(left) + len(left_kinds)
        product = numpy.ones(shape, numpy.float32)
        if not count:
            return product.astype(numpy.float64)
        total = numpy.zeros(shape, numpy.float32)
        for one, other, lengths in zip(left, right, self.lengths[which].T, strict=True):
            alike = matern(numpy.abs(one[:, None] - other[None, :]) / lengths[:, None, None])
            product *= alike
            total += alike
        for one, other, likeness in zip(left_kinds, right_kinds, self.kinds[which].T, strict=True):
            alike = numpy.where(one[:, None] == other[None, :], numpy.float32(1), likeness[:, None, None])
            product *= alike
            total += alike
        additive = self.column("additive")[which].astype(numpy.float32)
        product *= 1 - additive
        total *= additive / numpy.float32(count)
        product += total
        return product.astype(numpy.float64)


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
