"""What is believed of networks that were not measured: a mixture of Gaussian processes that are drawn, not fitted.

The hyperparameters of every member are one quasi-random draw from broad priors, the same at every call; its weight is
its marginal likelihood. So nothing is optimized, nothing is random, and nothing is kept between two calls. Half of the
members take a prior mean times a slope that they learn, the others know nothing of it: a prior that does not explain
what is seen loses its weight.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy
from scipy.linalg import cholesky, solve_triangular

from prune_search.search.guided.kernel import COMMON, Array, Kernel, Member, Nodes, Pairs, Rows, members, within_depths

# Members of a smaller share of the largest weight are left out.
FEWEST = 0.01
# The deviation of the surface that is guessed, and how many measurements that guess is worth.
SCALE, GUESSED = 0.15, 6.0
# Deviation of the slope of a prior from 1.
SLOPE = 1.0
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
    """

    weights: Array
    mean: Array
    deviation: Array
    guided: float

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
    expectation = {False: _unknown(nodes), True: _published(nodes)}
    everyone = members(len(kernel.plain), len(kernel.kinds), nodes.prior is not None)
    if not len(seen):
        # The level that all have in common tells no two of them apart.
        weights = numpy.full(len(everyone), 1.0 / len(everyone))
        means = numpy.array([expectation[one.guided].mean for one in everyone])
        variances = [kernel.variance(one) - COMMON + expectation[one.guided].tilt ** 2 for one in everyone]
        return Belief(weights, means, SCALE * numpy.sqrt(variances), float(nodes.prior is not None) / 2)
    table = _Table(kernel, expectation, seen, values)
    fitted = [table.fitted(one) for one in everyone]
    logs = numpy.array([one.likelihood for one in fitted])
    weights = numpy.exp(logs - logs.max())
    kept = [place for place, weight in enumerate(weights) if weight > FEWEST]
    weights = weights[kept] / weights[kept].sum()
    cross = table.cross()
    found = [table.predicted(fitted[place], cross) for place in kept]
    share = float(sum(w for w, place in zip(weights, kept, strict=True) if everyone[place].guided))
    return Belief(weights, numpy.array([mean for mean, _ in found]), numpy.array([sd for _, sd in found]), share)


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


def _unknown(nodes: Nodes) -> _Expectation:
    """The same of all."""
    level = 0.0 if nodes.prior is None else float(nodes.prior.mean())
    return _Expectation(numpy.full(len(nodes.depth), level), numpy.zeros(len(nodes.depth)))


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


@dataclass(frozen=True)
class _Table:
    """Measurements of some of the nodes.

    Attributes:
        kernel: of all nodes.
        expectation: of members that take the prior, and of those that do not.
        seen: [s], rows.
        values: [s].
    """

    kernel: Kernel
    expectation: Mapping[bool, _Expectation]
    seen: Rows
    values: Array

    @cached_property
    def _triangle(self) -> tuple[Rows, Rows, Pairs]:
        left, right = numpy.tril_indices(len(self.seen))
        return left, right, self.kernel.pairs(self.seen[left], self.seen[right])

    def fitted(self, one: Member) -> _Fitted:
        """The member's marginal likelihood, with its variance integrated out (inverse gamma around `SCALE` squared)."""
        left, right, pairs = self._triangle
        covariance = numpy.zeros((len(self.seen), len(self.seen)))
        covariance[left, right] = pairs.covariance(one)
        expected = self.expectation[one.guided]
        covariance += numpy.outer(expected.tilt[self.seen], expected.tilt[self.seen])
        covariance[numpy.diag_indices(len(self.seen))] += one.noise**2
        factor = cholesky(covariance, lower=True, overwrite_a=True, check_finite=False)
        white = solve_triangular(factor, self.values - expected.mean[self.seen], lower=True, check_finite=False)
        half = (GUESSED + len(self.seen)) / 2
        beta = GUESSED / 2 * SCALE**2 + white @ white / 2
        likelihood = -numpy.log(numpy.diag(factor)).sum() - half * numpy.log(beta)
        return _Fitted(one, float(likelihood), factor, white, float(beta / half))

    def cross(self) -> Pairs:
        """Each measured node with each node."""
        count = len(self.kernel.depth)
        return self.kernel.pairs(numpy.repeat(self.seen, count), numpy.tile(numpy.arange(count), len(self.seen)))

    def predicted(self, one: _Fitted, cross: Pairs) -> tuple[Array, Array]:
        """[n], mean and deviation at every node."""
        covariance = cross.covariance(one.member).reshape(len(self.seen), -1)
        expected = self.expectation[one.member.guided]
        covariance += numpy.outer(expected.tilt[self.seen], expected.tilt)
        variance = self.kernel.variance(one.member) + expected.tilt**2
        half = solve_triangular(one.factor, covariance, lower=True, overwrite_b=True, check_finite=False)
        left = numpy.maximum(variance - numpy.einsum("sn,sn->n", half, half), LEAST)
        return expected.mean + one.white @ half, numpy.sqrt(left * one.scale)
