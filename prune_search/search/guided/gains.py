"""What the search is expected to gain from each recipe that could be tried next."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy
from numpy.typing import NDArray

from prune_search.ledger.ranking import Dense, Goals
from prune_search.search.guided.hypervolume import MOST_OBJECTIVES, expected_hypervolume, front_of
from prune_search.search.guided.hypervolume import improvement as improvement
from prune_search.search.guided.kernel import Array
from prune_search.search.guided.surrogate import Belief
from prune_search.search.guided.targets import Target

SPARSITY = "sparsity"
# Levels of sparsity at which accuracies are compared, at most.
LEVELS = 12
# Quasi-random draws of several objectives' figures, and the part of a plain sum in their scalarization.
DRAWS, PLAIN = 16, 0.05
# What a recipe that cannot gain counts beside one that can: ties go to the cheapest.
CRUMB = 1e-6


@dataclass(frozen=True)
class Modelled:
    """A metric of the goals at the recipes that could be tried, and at the ones that have ended.

    Attributes:
        target: its scale.
        belief: of all nodes; None where the figure is known beforehand.
        known: [n], the figure at every node where it is known beforehand, on the target's scale.
    """

    target: Target
    belief: Belief | None
    known: Array | None = None

    def chance(self, rows: NDArray[numpy.int64], bound: float) -> Array:
        """[rows], the probability that the figure is at least as good as a bound in the metric's unit."""
        least = self.target.scaled(bound) - 1e-9
        if self.belief is None:
            return numpy.where(_known(self)[rows] >= least, 1.0, 0.0)
        from scipy.special import ndtr

        mean, deviation = self.belief.mean[:, rows], self.belief.deviation[:, rows]
        return numpy.asarray(self.belief.weights @ ndtr((mean - least) / deviation), dtype=numpy.float64)

    def moments(self, rows: NDArray[numpy.int64]) -> tuple[Array, Array]:
        """[rows], mean and deviation of the mixture."""
        if self.belief is None:
            return _known(self)[rows], numpy.zeros(len(rows))
        mean, deviation = self.belief.mean[:, rows], self.belief.deviation[:, rows]
        centre = self.belief.weights @ mean
        variance = self.belief.weights @ (deviation**2 + (mean - centre) ** 2)
        return centre, numpy.sqrt(variance)


def _known(one: Modelled) -> Array:
    if one.known is None:
        raise ValueError("a metric is either believed or known")
    return one.known


@dataclass(frozen=True)
class Gains:
    """Expected gains of a search's goals.

    Attributes:
        goals: objectives and constraints.
        objectives: as modelled, in their order.
        constraints: as modelled without a prior, in their order.
        dense: metrics of the dense network, or None.
        ended: [e], rows of the recipes that were run to their end.
        met: [e], whether each of them meets the constraints.
        sparsity: [n], nominal sparsity of every node.
    """

    goals: Goals
    objectives: Sequence[Modelled]
    constraints: Sequence[Modelled]
    dense: Dense
    ended: NDArray[numpy.int64]
    met: NDArray[numpy.bool_]
    sparsity: Array

    def of(self, rows: NDArray[numpy.int64], number: int) -> Array:
        """[rows], at least 0: the expected gain of each recipe.

        Args:
            rows: of the recipes' ends.
            number: of the proposal, by which more than `MOST_OBJECTIVES` objectives are weighed.
        """
        chance = self._chance(rows)
        good = self.ended[self.met]
        if not len(good) and self.goals.constraints:
            return chance + CRUMB
        names = [metric for _, metric in self.goals.objectives]
        if len(names) == 1:
            gain = self._improvement(self.objectives[0], rows, good)
        elif len(names) == 2 and names[1] == SPARSITY and self.objectives[1].belief is None:
            gain = self._front(rows, good)
        elif len(names) <= MOST_OBJECTIVES:
            gain = self._volume(rows, good)
        else:
            gain = self._weighed(rows, good, number)
        return (gain + CRUMB * (gain.max(initial=0.0) or 1.0)) * chance

    def _chance(self, rows: NDArray[numpy.int64]) -> Array:
        """The probability that all constraints are met; of those that cannot be judged yet nothing is said."""
        chance = numpy.ones(len(rows))
        for (metric, _, bound), modelled in zip(self.goals.constraints, self.constraints, strict=True):
            reference = (self.dense or {}).get(metric) if bound.factor else 0.0
            if reference is not None:
                chance *= numpy.maximum(modelled.chance(rows, bound.value(float(reference))), CRUMB)
        return chance

    def _improvement(self, one: Modelled, rows: NDArray[numpy.int64], good: NDArray[numpy.int64]) -> Array:
        if one.belief is None:
            known = _known(one)
            best = known[good].max() if len(good) else known[rows].min()
            return numpy.asarray(numpy.maximum(known[rows] - best, 0.0), dtype=numpy.float64)
        belief = one.belief
        # The best expected figure of what has ended, not the luckiest measurement.
        # Where nothing has, that of a recipe drawn at random: what would be answered then.
        best = belief.mean[:, good].max(1) if len(good) else belief.mean[:, rows].mean(1)
        gained = improvement(belief.mean[:, rows], belief.deviation[:, rows], best[:, None])
        return numpy.asarray(belief.weights @ gained, dtype=numpy.float64)

    def _front(self, rows: NDArray[numpy.int64], good: NDArray[numpy.int64]) -> Array:
        """What a recipe adds to the staircase of the best figure at each sparsity, which is known beforehand."""
        belief = self.objectives[0].belief
        if belief is None:
            return self._weighed(rows, good, 0)
        levels = numpy.unique(numpy.round(self.sparsity[rows], 6))
        if len(levels) > LEVELS:
            levels = numpy.quantile(levels, numpy.linspace(0, 1, LEVELS))
        reaches = self.sparsity[rows][:, None] >= levels[None, :] - 1e-6
        total = numpy.zeros(len(rows))
        for weight, mean, deviation in zip(belief.weights, belief.mean, belief.deviation, strict=True):
            value, spread = mean, deviation
            if self.objectives[0].target.is_error:
                # In shares of right answers (or of the loss), so that a point is worth the same at every level.
                value, spread = -numpy.exp(-mean), deviation * numpy.exp(-mean)
            front = numpy.full(len(levels), numpy.quantile(value[rows], 0.1))
            for place, level in enumerate(levels):
                there = good[self.sparsity[good] >= level - 1e-6]
                if len(there):
                    front[place] = max(front[place], value[there].max())
            steps = improvement(value[rows][:, None], spread[rows][:, None], front[None, :]) * reaches
            total += weight * steps.sum(1)
        return total

    def _volume(self, rows: NDArray[numpy.int64], good: NDArray[numpy.int64]) -> Array:
        """Expected hypervolume improvement over the expected figures of what has ended, on the scales of the models."""
        moments = [one.moments(rows) for one in self.objectives]
        mean, deviation = (numpy.stack(columns, axis=1) for columns in zip(*moments, strict=True))
        reached = numpy.stack([one.moments(good)[0] for one in self.objectives], axis=1)
        # What all but the worst recipes have counts nowhere, unless it belongs to the front.
        reference = numpy.quantile(mean, 0.1, axis=0)
        if len(reached):
            front = front_of(reached)
            least, most = front.min(0), front.max(0)
            reference = numpy.minimum(reference, least - 0.1 * (most - least))
        return expected_hypervolume(mean, deviation, reached, reference)

    def _weighed(self, rows: NDArray[numpy.int64], good: NDArray[numpy.int64], number: int) -> Array:
        """Expected improvement of several objectives weighed anew for each proposal (Knowles 2006, ParEGO)."""
        from scipy.special import ndtri
        from scipy.stats import qmc

        count = len(self.objectives)
        moments = [one.moments(rows) for one in self.objectives]
        reached = [one.moments(good)[0] for one in self.objectives]
        lowest = [min([*mean, *there]) for (mean, _), there in zip(moments, reached, strict=True)]
        highest = [max([*mean, *there]) for (mean, _), there in zip(moments, reached, strict=True)]
        shares = qmc.Sobol(count, seed=1).random(1 << (number + 1).bit_length())[number]
        weights = -numpy.log(numpy.clip(shares, 1e-6, 1 - 1e-6))
        weights /= weights.sum()
        draws = ndtri(numpy.clip(qmc.Sobol(count, seed=2).random(DRAWS), 1e-3, 1 - 1e-3))

        def scalar(values: Sequence[Array]) -> Array:
            scaled = [
                weight * (value - low) / ((high - low) or 1.0)
                for weight, value, low, high in zip(weights, values, lowest, highest, strict=True)
            ]
            return numpy.asarray(numpy.min(scaled, axis=0) + PLAIN * numpy.sum(scaled, axis=0), dtype=numpy.float64)

        best = scalar(reached).max() if len(good) else -math.inf
        if not math.isfinite(best):
            best = scalar([mean for mean, _ in moments]).min()
        found = numpy.zeros(len(rows))
        for draw in draws:
            sampled = [mean + deviation * z for (mean, deviation), z in zip(moments, draw, strict=True)]
            found += numpy.maximum(scalar(sampled) - best, 0.0) / len(draws)
        return found


def marginal_steps(segments: Sequence[tuple[str, int]], done: Mapping[str, int], going: Mapping[str, int]) -> float:
    """Steps that a recipe would add to the tree.

    Args:
        segments: address and needed steps of each segment of its branch.
        done: by address, steps that are stored.
        going: by address, steps that a running trial will have trained: half of them are still to be paid.
    """
    total = 0.0
    for address, needed in segments:
        left = max(0, needed - done.get(address, 0))
        total += left - min(left, max(0, going.get(address, 0) - done.get(address, 0))) / 2
    return total
