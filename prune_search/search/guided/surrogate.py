"""What is believed of networks that were not measured: a mixture of Gaussian processes that are drawn, not fitted.

The hyperparameters of every member are one quasi-random draw from broad priors, the same at every call; its weight is
its marginal likelihood. So nothing is optimized, nothing is random, and nothing is kept between two calls. Half of the
members take a prior mean times a slope that they learn, the others know nothing of it: a prior that does not explain
what is seen loses its weight.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TypeAlias

import numpy
from numpy.typing import NDArray
from scipy.linalg import cholesky, solve_triangular
from scipy.special import ndtr
from scipy.stats import norm, qmc

Array: TypeAlias = NDArray[numpy.float64]

MEMBERS = 32
# Variance, over a member's own, of the level that all networks have in common: it is learned.
COMMON = 100.0
# Members of a smaller share of the largest weight are left out.
FEWEST = 0.01
# The deviation of the surface that is guessed, and how many measurements that guess is worth.
SCALE, GUESSED = 0.15, 6.0
# Median deviation of a measurement's noise over the surface's, and deviation of the slope of a prior from 1.
NOISE, SLOPE = 0.4, 1.0
# The least variance that is left where everything is known.
LEAST = 1e-9


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
class Belief:
    """A mixture of normal distributions of the target at every node, one row per member that counts.

    Attributes:
        weights: [m], their sum is 1.
        mean: [m, n].
        deviation: [m, n], without the noise of a measurement.
        guided: the share of the weights that takes the prior.
    """

    weights: Array
    mean: Array
    deviation: Array
    guided: float

    @property
    def expected(self) -> Array:
        """[n], the mean of each node."""
        return self.weights @ self.mean


def believe(nodes: Nodes, seen: NDArray[numpy.int64], values: Array) -> Belief:
    """What is believed of all nodes.

    Args:
        nodes: n of them.
        seen: [s], the rows that were measured; one can stand there several times.
        values: [s], measured there.
    """
    kernel = _Kernel.of(nodes)
    guided = nodes.prior is not None
    prior = numpy.zeros(len(nodes.depth)) if nodes.prior is None else nodes.prior
    tilt = SLOPE * _within(prior, nodes.depth)
    everyone = members(kernel.plain.shape[1], kernel.kinds.shape[1], guided)
    if not len(seen):
        # The level that all have in common tells no two of them apart.
        weights = numpy.full(len(everyone), 1.0 / len(everyone))
        means = numpy.array([prior if one.guided else numpy.full(len(prior), prior.mean()) for one in everyone])
        variances = [kernel.variance(one) - COMMON + (tilt**2 if one.guided else 0.0) for one in everyone]
        return Belief(weights, means, SCALE * numpy.sqrt(variances), float(guided) / 2)
    fitted = [_Fitted.of(one, kernel, prior, tilt, seen, values) for one in everyone]
    logs = numpy.array([one.likelihood for one in fitted])
    weights = numpy.exp(logs - logs.max())
    kept = [place for place, weight in enumerate(weights) if weight > FEWEST]
    weights = weights[kept] / weights[kept].sum()
    found = [fitted[place].predict(kernel, prior, tilt, seen) for place in kept]
    share = float(sum(w for w, place in zip(weights, kept, strict=True) if everyone[place].guided))
    return Belief(weights, numpy.array([mean for mean, _ in found]), numpy.array([sd for _, sd in found]), share)


def _within(prior: Array, depth: Array) -> Array:
    """The prior less its mean at each depth: its slope is learned, and the common level besides."""
    _, place = numpy.unique(numpy.round(depth, 9), return_inverse=True)
    sums = numpy.bincount(place, weights=prior)
    return numpy.asarray(prior - (sums / numpy.bincount(place))[place], dtype=numpy.float64)


@dataclass(frozen=True)
class _Fitted:
    """A member after it has seen the measurements."""

    member: Member
    likelihood: float
    factor: Array
    white: Array
    scale: float

    @classmethod
    def of(
        cls, one: Member, kernel: _Kernel, prior: Array, tilt: Array, seen: NDArray[numpy.int64], values: Array
    ) -> _Fitted:
        """Its marginal likelihood, with its variance integrated out (inverse gamma around `SCALE` squared)."""
        covariance = kernel.between(one, seen, seen)
        if one.guided:
            covariance = covariance + tilt[seen][:, None] * tilt[seen][None, :]
        covariance[numpy.diag_indices(len(seen))] += one.noise**2
        factor = cholesky(covariance, lower=True)
        mean = prior[seen] if one.guided else prior.mean()
        white = solve_triangular(factor, values - mean, lower=True)
        half = (GUESSED + len(seen)) / 2
        beta = GUESSED / 2 * SCALE**2 + white @ white / 2
        likelihood = -numpy.log(numpy.diag(factor)).sum() - half * numpy.log(beta)
        return cls(one, float(likelihood), factor, white, float(beta / half))

    def predict(self, kernel: _Kernel, prior: Array, tilt: Array, seen: NDArray[numpy.int64]) -> tuple[Array, Array]:
        """Mean and deviation at every node."""
        one = self.member
        everything = numpy.arange(len(prior))
        cross, variance = kernel.between(one, seen, everything), kernel.variance(one)
        mean = prior if one.guided else numpy.full(len(prior), prior.mean())
        if one.guided:
            cross, variance = cross + tilt[seen][:, None] * tilt[None, :], variance + tilt**2
        half = solve_triangular(self.factor, cross, lower=True)
        left = numpy.maximum(variance - (half**2).sum(0), LEAST)
        return mean + self.white @ half, numpy.sqrt(left * self.scale)


@dataclass(frozen=True)
class _Kernel:
    """The nodes as the members' kernels see them; columns that are the same everywhere are left out."""

    plain: NDArray[numpy.float32]
    ranked: NDArray[numpy.float32]
    kinds: NDArray[numpy.int64]
    depth: Array
    branch: NDArray[numpy.int64]

    @classmethod
    def of(cls, nodes: Nodes) -> _Kernel:
        varied = numpy.ptp(nodes.numbers, axis=0) > 0
        numbers = nodes.numbers[:, varied]
        kinds = nodes.kinds[:, numpy.ptp(nodes.kinds, axis=0) > 0]
        plain, ranked = numbers.astype(numpy.float32), _ranks(numbers).astype(numpy.float32)
        return cls(plain, ranked, kinds, nodes.depth, nodes.branch)

    @property
    def deepens(self) -> bool:
        """Whether networks differ in how sparse they are."""
        return bool(numpy.ptp(self.depth) > 0)

    def between(self, one: Member, rows: NDArray[numpy.int64], columns: NDArray[numpy.int64]) -> Array:
        """[rows, columns] over the member's variance, without the slope of a prior."""
        table = self.ranked if one.ranked else self.plain
        kernels = [
            _matern(numpy.abs(table[rows, place][:, None] - table[columns, place][None, :]) / numpy.float32(length))
            for place, length in enumerate(one.lengths)
        ]
        for place, length in enumerate(one.kinds):
            unlike = self.kinds[rows, place][:, None] != self.kinds[columns, place][None, :]
            kernels.append(numpy.where(unlike, numpy.float32(numpy.exp(-1 / length)), numpy.float32(1)))
        shape = (len(rows), len(columns))
        found: Array = numpy.ones(shape)
        if kernels:
            # All interactions at once, and the main effects.
            product, total = kernels[0].astype(numpy.float64), kernels[0].astype(numpy.float64)
            for other in kernels[1:]:
                product, total = product * other, total + other
            found = (1 - one.additive) * product + one.additive * total / len(kernels)
        same = one.own**2 * (self.branch[rows][:, None] == self.branch[columns][None, :])
        if not self.deepens:
            return numpy.asarray(found + same + COMMON, dtype=numpy.float64)
        # Recipes fan out as their networks get sparser, around a curve that all have in common.
        apart = numpy.abs(self.depth[rows][:, None] - self.depth[columns][None, :])
        spread = numpy.exp(one.fan * (self.depth - 1))
        found = spread[rows][:, None] * spread[columns][None, :] * (found * _matern(apart / one.depth) + same)
        return numpy.asarray(found + one.base**2 * _matern(apart / one.level) + COMMON, dtype=numpy.float64)

    def variance(self, one: Member) -> Array:
        """[n], of each node."""
        if not self.deepens:
            return numpy.full(len(self.depth), 1 + one.own**2 + COMMON)
        return numpy.exp(2 * one.fan * (self.depth - 1)) * (1 + one.own**2) + one.base**2 + COMMON


def _matern(ratio: NDArray[numpy.floating]) -> NDArray[numpy.floating]:
    """Matérn-5/2 of distances over a length (Rasmussen & Williams 2006, eq. 4.17)."""
    scaled = ratio * ratio.dtype.type(5**0.5)
    return (1 + scaled + scaled * scaled / 3) * numpy.exp(-scaled)


def _ranks(values: Array) -> Array:
    """Each column by the place of its value among the distinct ones, 0 … 1."""
    found = numpy.empty_like(values)
    for column in range(values.shape[1]):
        distinct, place = numpy.unique(numpy.round(values[:, column], 9), return_inverse=True)
        found[:, column] = place / max(1, len(distinct) - 1)
    return found
