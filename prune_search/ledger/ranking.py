"""Ranks trials by a search's objectives and constraints, from plain metrics. No torch, optuna or ray."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from prune_search.ledger.records import TrialRecords
from prune_search.recipe.search_block import Bound, parse_constraint, parse_objective

# A figure within this share of its bound meets it: 1 - 0.9 is below 0.1 in floating point.
TOLERANCE = 1e-9

Dense = Mapping[str, Any] | None


@dataclass(frozen=True)
class Goals:
    """Objectives and constraints of a search.

    Attributes:
        objectives: (``maximize`` or ``minimize``, metric), the first counts first.
        constraints: (metric, ``>=`` or ``<=``, bound).
    """

    objectives: tuple[tuple[str, str], ...]
    constraints: tuple[tuple[str, str, Bound], ...] = ()

    @classmethod
    def of(cls, search_block: Mapping[str, Any]) -> Goals:
        """The goals of a canonical search block."""
        objectives = tuple(parse_objective(written) for written in search_block["objectives"])
        return cls(objectives, tuple(parse_constraint(written) for written in search_block["constraints"]))

    @property
    def directions(self) -> tuple[str, ...]:
        """``maximize`` or ``minimize`` for each objective."""
        return tuple(direction for direction, _ in self.objectives)

    @property
    def needs_dense(self) -> bool:
        """Whether a constraint is relative to the dense network."""
        return any(bound.factor for _, _, bound in self.constraints)

    def values(self, metrics: Mapping[str, Any]) -> tuple[float, ...] | None:
        """The objectives' figures as they were measured; None where one is missing or not finite."""
        found = [_figure(metrics, metric) for _, metric in self.objectives]
        return None if None in found else tuple(value for value in found if value is not None)

    def signed(self, values: Sequence[float]) -> tuple[float, ...]:
        """`values` with the sign flipped where smaller is better, so that larger is better everywhere."""
        return tuple(v if d == "maximize" else -v for d, v in zip(self.directions, values, strict=True))

    def violations(self, metrics: Mapping[str, Any], dense: Dense) -> list[float] | None:
        """By how much each constraint is violated.

        Args:
            metrics: of the trial.
            dense: metrics of the dense network of the same search; None while they are not known.

        Returns:
            Per constraint, in the metric's unit: above 0 where it is violated, 0 or the negative room that is left
            where it is met, infinite where the metric is missing or not finite. None where a needed figure of the
            dense network is not known.
        """
        found = []
        for metric, relation, bound in self.constraints:
            reference = _figure(dense or {}, metric) if bound.factor else 0.0
            if reference is None:
                return None
            limit, value = bound.value(reference), _figure(metrics, metric)
            if value is None:
                found.append(math.inf)
                continue
            over = limit - value if relation == ">=" else value - limit
            found.append(0.0 if abs(over) <= TOLERANCE * max(1.0, abs(limit)) else over)
        return found

    def ranks(self, measured: Sequence[Mapping[str, Any]], dense: Dense) -> list[int]:
        """Constrained non-dominated ranks (Deb et al. 2002, NSGA-II, constrained domination), 0 is best.

        What meets all constraints comes before what does not, and what violates them less in total before what
        violates them more; among equals the non-dominated ranks of the objectives decide. Constraints that cannot be
        judged yet, for want of the dense network, count as met.

        Args:
            measured: metrics with a finite figure for every objective.
            dense: metrics of the dense network, or None.

        Raises:
            ValueError: a figure of an objective is missing or not finite.
        """
        levels: dict[float, list[int]] = {}
        points = []
        for index, metrics in enumerate(measured):
            values = self.values(metrics)
            if values is None:
                raise ValueError(f"an objective's figure is missing or not finite: {dict(metrics)}")
            points.append(self.signed(values))
            levels.setdefault(total_violation(self.violations(metrics, dense)), []).append(index)
        ranks, above = [0] * len(points), 0
        for level in sorted(levels):
            inside = non_dominated_ranks([points[index] for index in levels[level]])
            for index, rank in zip(levels[level], inside, strict=True):
                ranks[index] = above + rank
            above += max(inside) + 1
        return ranks

    def pareto(self, trials: Sequence[TrialRecords], dense: Dense) -> list[TrialRecords]:
        """The Pareto trials.

        Controls, trials that did not complete, repeated recipes and trials without a finite figure for every objective
        are left out.

        Returns:
            The trials that meet the constraints and that no other such trial dominates, in the order of `trials`.
            Where none meets them: the same among those whose total violation is least.
        """
        candidates = self._candidates(trials)
        ranks = self.ranks([trial.metrics for trial in candidates], dense)
        return [trial for trial, rank in zip(candidates, ranks, strict=True) if rank == 0]

    def best(self, trials: Sequence[TrialRecords], dense: Dense) -> tuple[TrialRecords | None, bool]:
        """The best trial, and whether it meets the constraints.

        It is the first in the first objective among the Pareto trials (ties: the next objective, then the key). Where
        no trial meets the constraints, it is the one that violates them least, and the second value is False; so it is
        while a needed figure of the dense network is not known, and where there is no trial (None).
        """
        # The first in lexicographic order among those that violate least is a Pareto trial.
        first = min(self._candidates(trials), key=lambda trial: self.order(trial, dense), default=None)
        if first is None:
            return None, False
        violations = self.violations(first.metrics, dense)
        return first, violations is not None and total_violation(violations) == 0.0

    def order(self, trial: TrialRecords, dense: Dense) -> tuple[float, tuple[float, ...], str]:
        """A completed trial's place: less violation first, then better objectives, the first counting first."""
        values = self.values(trial.metrics) or ()
        violation = total_violation(self.violations(trial.metrics, dense))
        return violation, tuple(-value for value in self.signed(values)), _key(trial)

    def meets(self, trial: TrialRecords, dense: Dense) -> bool:
        """Whether a trial has all objectives' figures and violates no constraint, as far as that is known."""
        known = self.values(trial.metrics) is not None
        return known and total_violation(self.violations(trial.metrics, dense)) == 0.0

    def _candidates(self, trials: Sequence[TrialRecords]) -> list[TrialRecords]:
        unique: dict[str, TrialRecords] = {}
        # A repeated recipe stands for itself only where the trial that it repeats is not among the trials.
        for trial in sorted(trials, key=lambda trial: trial.duplicate_of is not None):
            completed = trial.ended is not None and trial.ended.data["status"] == "completed"
            if completed and not trial.control and self.values(trial.metrics) is not None:
                unique.setdefault(_key(trial), trial)
        chosen = {trial.id for trial in unique.values()}
        return [trial for trial in trials if trial.id in chosen]


def _key(trial: TrialRecords) -> str:
    return str(trial.result.get("key", trial.id))


def _figure(metrics: Mapping[str, Any], metric: str) -> float | None:
    value = metrics.get(metric)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)


def total_violation(violations: Sequence[float] | None) -> float:
    """The sum of what is violated; 0 where nothing is, or where it is not known yet (None)."""
    return math.fsum(violation for violation in violations or () if violation > 0)


def non_dominated_ranks(points: Sequence[Sequence[float]]) -> list[int]:
    """The front of each point: 0 for those that no other dominates, 1 for those that only these dominate, and so on.

    A point dominates another one if it is at least as large in every coordinate and larger in one; equal points lie on
    one front. Efficient non-dominated sort (Zhang, Tian, Cheng & Jin 2015): in descending lexicographic order no point
    is dominated by a later one, and the fronts that hold a dominating point are the first ones.

    Args:
        points: finite, all of one length, larger is better.

    Example:
        >>> non_dominated_ranks([(1.0, 3.0), (2.0, 2.0), (1.0, 2.0), (0.0, 0.0)])
        [0, 0, 1, 2]
    """
    if points and len(points[0]) == 1:
        place = {value: rank for rank, value in enumerate(sorted({point[0] for point in points}, reverse=True))}
        return [place[point[0]] for point in points]
    ranks = [0] * len(points)
    fronts: list[_Front] = []
    for index in sorted(range(len(points)), key=lambda index: tuple(-x for x in points[index])):
        point = tuple(points[index])
        low, high = 0, len(fronts)
        while low < high:
            middle = (low + high) // 2
            if fronts[middle].dominates(point):
                low = middle + 1
            else:
                high = middle
        if low == len(fronts):
            fronts.append(_Front([], point[1:]))
        fronts[low].add(point)
        ranks[index] = low
    return ranks


@dataclass
class _Front:
    """Points of one front, and the largest that any of them has in each coordinate after the first."""

    members: list[tuple[float, ...]]
    top: tuple[float, ...]

    def add(self, point: tuple[float, ...]) -> None:
        self.members.append(point)
        self.top = tuple(max(one, other) for one, other in zip(self.top, point[1:], strict=True))

    def dominates(self, point: tuple[float, ...]) -> bool:
        """Whether a member dominates a point that comes after all of them in descending order."""
        if any(one > top for one, top in zip(point[1:], self.top, strict=True)):
            return False
        return any(
            member != point and all(m >= p for m, p in zip(member, point, strict=True))
            for member in reversed(self.members)
        )
