"""What is believed of networks that were not measured: a mixture of Gaussian processes that are drawn, not fitted.

The hyperparameters of every member are one quasi-random draw from broad priors, the same at every call; its weight is
its marginal likelihood. So nothing is optimized, nothing is random, and nothing is kept between two calls. Half of the
members take a prior mean times a slope that they learn, the others know nothing of it: a prior that does not explain
what is seen loses its weight.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy

from prune_search.search.guided.kernel import (
    COMMON,
    FEW,
    MEMBERS,
    OF_MANY,
    Array,
    Bank,
    Kernel,
    Member,
    Nodes,
    Rows,
    members,
    within_depths,
)

# Members of a smaller share of the largest weight are left out.
FEWEST = 0.05
# The deviation of the surface that is guessed, and how many measurements that guess is worth.
SCALE, GUESSED = 0.15, 6.0
# Of the members that could take the prior, one in so many takes an earlier search's surface too.
EVERY = 2
# Deviation of the slope of a prior from 1.
SLOPE = 1.0
# What is expected to be lost from the densest network to the sparsest, on the scale of -log(error).
WORSE = 1.0
# Covariances that are computed together: so many that they stay in a processor's cache.
TOGETHER = 200_000
# More than the measurements' squares over any factor.
BEYOND = 1e12
# The least variance that is left where everything is known.
LEAST = 1e-9


@dataclass(frozen=True)
class Belief:
    """A mixture of normal distributions of the target at every node, one row per member that counts.

    Attributes:
        weights: [m], their sum is 1.
        mean: [m, n].
        deviation: [m, n], without the noise of a measurement.
        guided: the share of the weights that takes the prior.
        learned: the shares that take what earlier searches let one expect, in their order.
    """

    weights: Array
    mean: Array
    deviation: Array
    guided: float
    learned: tuple[float, ...] = ()

    @property
    def expected(self) -> Array:
        """[n], the mean of each node."""
        return self.weights @ self.mean


def believe(nodes: Nodes, seen: Rows, values: Array) -> Belief:
    """What is believed of all nodes.

    Args:
        nodes: n of them.
        seen: [s], the rows that were measured; one can stand there several times.
        values: [s], measured there.
    """
    kernel = Kernel.of(nodes)
    expectation = dict(enumerate((_unknown(nodes), _published(nodes), *_learned(nodes))))
    count = MEMBERS if len(seen) <= FEW else OF_MANY
    everyone = members(len(kernel.plain), len(kernel.kinds), nodes.prior is not None, count)
    everyone += _of_earlier(everyone, len(nodes.learned))
    if not len(seen):
        # The level that all have in common tells no two of them apart.
        weights = numpy.full(len(everyone), 1.0 / len(everyone))
        means = numpy.array([expectation[one.source].mean for one in everyone])
        variances = [kernel.variance(one) - COMMON + expectation[one.source].tilt ** 2 for one in everyone]
        return Belief(weights, means, SCALE * numpy.sqrt(variances), *_shares(everyone, weights, nodes))
    table = _Table(kernel, expectation, seen, values)
    fitted = table.fitted(everyone)
    logs = numpy.array([one.likelihood for one in fitted])
    weights = numpy.exp(logs - logs.max())
    kept = [place for place, weight in enumerate(weights) if weight > FEWEST]
    weights = weights[kept] / weights[kept].sum()
    found = table.predicted([fitted[place] for place in kept])
    shares = _shares([everyone[place] for place in kept], weights, nodes)
    return Belief(weights, numpy.array([mean for mean, _ in found]), numpy.array([sd for _, sd in found]), *shares)


def _of_earlier(everyone: Sequence[Member], searches: int) -> tuple[Member, ...]:
    """Further members that take what each of some earlier searches lets one expect; half as many as take the prior."""
    some = everyone[:: 2 * EVERY]
    return tuple(replace(one, guided=False, earlier=place) for place in range(searches) for one in some)


def _shares(everyone: Sequence[Member], weights: Array, nodes: Nodes) -> tuple[float, tuple[float, ...]]:
    """The weight of the prior, and of each earlier search."""
    found = [0.0] * (2 + len(nodes.learned))
    for one, weight in zip(everyone, weights, strict=True):
        found[one.source] += float(weight)
    return found[1], tuple(found[2:])


@dataclass(frozen=True)
class _Expectation:
    """What a member expects before it has seen anything.

    Attributes:
        mean: [n], of the target.
        tilt: [n], what a deviation of the learned slope adds, over the member's deviation.
    """

    mean: Array
    tilt: Array


def _published(nodes: Nodes) -> _Expectation:
    """The prior, times a slope that is learned."""
    prior = numpy.zeros(len(nodes.depth)) if nodes.prior is None else nodes.prior
    return _Expectation(prior, SLOPE * within_depths(prior, nodes.depth))


def _learned(nodes: Nodes) -> list[_Expectation]:
    """What earlier searches showed, times a slope that is learned: their errors may lie further apart."""
    return [_Expectation(mean, SLOPE * within_depths(mean, nodes.depth)) for mean in nodes.learned]


def _unknown(nodes: Nodes) -> _Expectation:
    """The same of all, but for how sparse they are."""
    level = 0.0 if nodes.prior is None else float(nodes.prior.mean())
    mean = numpy.full(len(nodes.depth), level) - (WORSE * nodes.depth if nodes.worsens else 0.0)
    return _Expectation(mean, numpy.zeros(len(nodes.depth)))


@dataclass(frozen=True)
class _Fitted:
    """A member after it has seen the measurements.

    Attributes:
        member: which.
        likelihood: logarithm of the marginal one, but for a constant.
        factor: [s, s], of the measurements' covariance, lower.
        white: [s], what was measured, less its mean, over the factor.
        scale: the member's variance.
    """

    member: Member
    likelihood: float
    factor: Array
    white: Array
    scale: float

    @classmethod
    def of(cls, one: Member, factor: Array) -> _Fitted:
        """From the factor of the covariance with the measurements below it."""
        white, factor = factor[-1, :-1], factor[:-1, :-1]
        half = (GUESSED + len(white)) / 2
        beta = GUESSED / 2 * SCALE**2 + white @ white / 2
        likelihood = -numpy.log(numpy.diag(factor)).sum() - half * numpy.log(beta)
        return cls(one, float(likelihood), factor, white, float(beta / half))


@dataclass(frozen=True)
class _Table:
    """Measurements of some of the nodes.

    Attributes:
        kernel: of all nodes.
        expectation: of members, by the source of their prior mean.
        seen: [s], rows.
        values: [s].
    """

    kernel: Kernel
    expectation: Mapping[int, _Expectation]
    seen: Rows
    values: Array

    def fitted(self, everyone: Sequence[Member]) -> list[_Fitted]:
        """Marginal likelihoods, each member's variance integrated out (inverse gamma around `SCALE` squared)."""
        count = len(self.seen)
        left, right = numpy.tril_indices(count)
        pairs = self.kernel.pairs(self.seen, self.seen).take(left * count + right)
        at_once = max(1, TOGETHER // len(left))
        found: list[_Fitted] = []
        for first in range(0, len(everyone), at_once):
            bank = Bank.of(everyone[first : first + at_once])
            # What was measured is a last row: the factor's last row is what is left of it over the factor.
            whole = numpy.zeros((len(bank.one), count + 1, count + 1))
            whole[:, left, right] = pairs.covariance(bank) + COMMON
            for matrix, one in zip(whole, bank.one, strict=True):
                expected = self.expectation[one.source]
                matrix[:count, :count] += numpy.outer(expected.tilt[self.seen], expected.tilt[self.seen])
                matrix[numpy.diag_indices(count)] += one.noise**2
                matrix[count, :count] = self.values - expected.mean[self.seen]
                matrix[count, count] = BEYOND
            factors = numpy.linalg.cholesky(whole)
            found += [_Fitted.of(one, factor) for one, factor in zip(bank.one, factors, strict=True)]
        return found

    def predicted(self, fitted: Sequence[_Fitted]) -> list[tuple[Array, Array]]:
        """[n], mean and deviation at every node, by each member."""
        count, everyone = len(self.seen), len(self.kernel.depth)
        pairs = self.kernel.pairs(self.seen, numpy.arange(everyone))
        at_once = max(1, TOGETHER // (count * everyone))
        found = []
        for first in range(0, len(fitted), at_once):
            some = fitted[first : first + at_once]
            for one, cross in zip(some, pairs.covariance(Bank.of([one.member for one in some])), strict=True):
                found.append(self._predicted(one, cross.reshape(count, everyone) + COMMON))
        return found

    def _predicted(self, one: _Fitted, cross: Array) -> tuple[Array, Array]:
        from scipy.linalg import solve_triangular

        expected = self.expectation[one.member.source]
        cross = cross + numpy.outer(expected.tilt[self.seen], expected.tilt)
        variance = self.kernel.variance(one.member) + expected.tilt**2
        half = solve_triangular(one.factor, cross, lower=True, overwrite_b=True, check_finite=False)
        left = numpy.maximum(variance - numpy.einsum("sn,sn->n", half, half), LEAST)
        return expected.mean + one.white @ half, numpy.sqrt(left * one.scale)
