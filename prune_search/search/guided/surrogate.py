"""What is believed of networks that were not measured: a mixture of Gaussian processes that are drawn, not fitted.

The hyperparameters of every member are one quasi-random draw from broad priors, the same at every call; its weight is
its marginal likelihood. So nothing is optimized, nothing is random, and nothing is kept between two calls. Half of the
members take a prior mean times a slope that they learn, the others know nothing of it: a prior that does not explain
what is seen loses its weight.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy
from scipy.linalg import cholesky, solve_triangular

from prune_search.search.guided.kernel import COMMON, Array, Kernel, Member, Nodes, Pairs, Rows, members

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
    guided = nodes.prior is not None
    prior = numpy.zeros(len(nodes.depth)) if nodes.prior is None else nodes.prior
    tilt = SLOPE * within_depths(prior, nodes.depth)
    everyone = members(len(kernel.plain), len(kernel.kinds), guided)
    if not len(seen):
        # The level that all have in common tells no two of them apart.
        weights = numpy.full(len(everyone), 1.0 / len(everyone))
        means = numpy.array([prior if one.guided else numpy.full(len(prior), prior.mean()) for one in everyone])
        variances = [kernel.variance(one) - COMMON + (tilt**2 if one.guided else 0.0) for one in everyone]
        return Belief(weights, means, SCALE * numpy.sqrt(variances), float(guided) / 2)
    table = _Table(kernel, prior, tilt, seen, values)
    fitted = [table.fitted(one) for one in everyone]
    logs = numpy.array([one.likelihood for one in fitted])
    weights = numpy.exp(logs - logs.max())
    kept = [place for place, weight in enumerate(weights) if weight > FEWEST]
    weights = weights[kept] / weights[kept].sum()
    cross = table.cross()
    found = [table.predicted(fitted[place], cross) for place in kept]
    share = float(sum(w for w, place in zip(weights, kept, strict=True) if everyone[place].guided))
    return Belief(weights, numpy.array([mean for mean, _ in found]), numpy.array([sd for _, sd in found]), share)


def within_depths(prior: Array, depth: Array) -> Array:
    """The prior less its mean at each depth: its slope is learned, and the common level besides."""
    _, place = numpy.unique(numpy.round(depth, 9), return_inverse=True)
    sums = numpy.bincount(place, weights=prior)
    return numpy.asarray(prior - (sums / numpy.bincount(place))[place], dtype=numpy.float64)


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
        prior: [n].
        tilt: [n], the prior as far as its slope is learned.
        seen: [s], rows.
        values: [s].
    """

    kernel: Kernel
    prior: Array
    tilt: Array
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
        if one.guided:
            covariance += numpy.outer(self.tilt[self.seen], self.tilt[self.seen])
        covariance[numpy.diag_indices(len(self.seen))] += one.noise**2
        factor = cholesky(covariance, lower=True, overwrite_a=True, check_finite=False)
        mean = self.prior[self.seen] if one.guided else self.prior.mean()
        white = solve_triangular(factor, self.values - mean, lower=True, check_finite=False)
        half = (GUESSED + len(self.seen)) / 2
        beta = GUESSED / 2 * SCALE**2 + white @ white / 2
        likelihood = -numpy.log(numpy.diag(factor)).sum() - half * numpy.log(beta)
        return _Fitted(one, float(likelihood), factor, white, float(beta / half))

    def cross(self) -> Pairs:
        """Each measured node with each node."""
        count = len(self.prior)
        return self.kernel.pairs(numpy.repeat(self.seen, count), numpy.tile(numpy.arange(count), len(self.seen)))

    def predicted(self, one: _Fitted, cross: Pairs) -> tuple[Array, Array]:
        """[n], mean and deviation at every node."""
        covariance = cross.covariance(one.member).reshape(len(self.seen), len(self.prior))
        variance = self.kernel.variance(one.member)
        mean = self.prior if one.member.guided else numpy.full(len(self.prior), self.prior.mean())
        if one.member.guided:
            covariance += numpy.outer(self.tilt[self.seen], self.tilt)
            variance = variance + self.tilt**2
        half = solve_triangular(one.factor, covariance, lower=True, overwrite_b=True, check_finite=False)
        left = numpy.maximum(variance - numpy.einsum("sn,sn->n", half, half), LEAST)
        return mean + one.white @ half, numpy.sqrt(left * one.scale)
