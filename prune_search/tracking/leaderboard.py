"""Orders the trials shown on a search's parent run, best first."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from prune_search.ledger.ranking import Goals, total_violation
from prune_search.ledger.records import SearchRecords, TrialRecords

PARETO, DOMINATED, MISSES = "pareto", "dominated", "misses a constraint"


@dataclass(frozen=True)
class Placed:
    """A trial in its place.

    Attributes:
        trial: a completed trial.
        pareto: whether it is a Pareto trial.
        violation: by how much it misses the constraints; 0 where it meets them or that is not known yet.
    """

    trial: TrialRecords
    pareto: bool
    violation: float


def goals_of(search: SearchRecords) -> Goals:
    """What the search looks for."""
    return Goals.of(search.definition["space"]["search"])


def directions(goals: Goals) -> dict[str, str]:
    """``maximize`` or ``minimize`` for each metric that a search looks at: the objectives', then the constraints'."""
    found = {metric: direction for direction, metric in goals.objectives}
    for metric, relation, _ in goals.constraints:
        found.setdefault(metric, "maximize" if relation == ">=" else "minimize")
    return found


def placed(search: SearchRecords) -> list[Placed]:
    """The completed trials, best first; repeated recipes are left out."""
    goals, dense = goals_of(search), search.dense
    done = [trial for trial in search.numbered() if trial.status == "completed"]
    front = {trial.id for trial in goals.pareto(done, dense)}
    rows = [Placed(trial, trial.id in front, total_violation(goals.violations(trial.metrics, dense))) for trial in done]

    def order(row: Placed) -> tuple[float, bool, tuple[float, ...], str]:
        values = goals.values(row.trial.metrics)
        worst = (math.inf,) * len(goals.objectives)
        costs = worst if values is None else tuple(-value for value in goals.signed(values))
        return row.violation, not row.pareto, costs, str(row.trial.result.get("key", row.trial.id))

    return sorted(rows, key=order)


def fronts(board: Sequence[Placed]) -> dict[str, str]:
    """Where each completed trial lies, by its id: on the front, behind it, or outside the constraints."""
    return {place.trial.id: MISSES if place.violation > 0 else PARETO if place.pareto else DOMINATED for place in board}
