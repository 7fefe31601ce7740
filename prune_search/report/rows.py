"""The rows of a comparison: trials that differ only in their seed share a row. No torch.

What a search never sees is not compared either: metrics of test data are left out of every row.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from prune_search.ledger.pauses import where_paused
from prune_search.ledger.records import PAUSED, Record, SearchRecords, TrialRecords
from prune_search.recipe import axes
from prune_search.recipe.recipe import digest_of

DENSE = "control-dense"
# In the order in which rows are shown: what ran to its end comes first.
STATUSES = ("completed", "paused", "stopped", "failed")

# Shares of examples that are right: how far they can be off follows from how many examples there are.
PROPORTIONS = ("val/accuracy",)
DEVIATIONS = 1.96

Metrics = Mapping[str, float]


@dataclass(frozen=True)
class Run:
    """One trial of one search.

    Attributes:
        search: the name of the search.
        trial: its records; it has ended.
        dense: the metrics of that search's dense network; empty where there is none.
        validated: how many validation examples it was measured on; 0 where that is not known.
    """

    search: str
    trial: TrialRecords
    dense: Metrics
    validated: int = 0

    @property
    def status(self) -> str:
        """How it ended; a repeated recipe as the one that it repeats."""
        return str(self.trial.ended.data["status"]) if self.trial.ended else ""

    @property
    def seed(self) -> Any:
        """task.seed."""
        return self.trial.recipe.get("task", {}).get("seed")

    @property
    def metrics(self) -> dict[str, float]:
        """What was measured on validation data, and what needs no data."""
        return seen_by_a_search(self.trial.metrics)

    def delta(self, metric: str) -> float | None:
        """A metric minus that of the same search's dense network; None where either is not known."""
        mine, dense = self.metrics.get(metric), self.dense.get(metric)
        return None if mine is None or dense is None else mine - dense


@dataclass(frozen=True)
class Row:
    """Trials that differ only in task.seed, as one.

    Attributes:
        runs: one per seed, all of one status, the lowest seed first.
        metrics: means over the seeds.
        deviation: sample standard deviations over the seeds; empty with one seed.
        rank: from 1, one more than the rows that are better beyond doubt; None where it is not ranked.
        pareto: whether it is on the Pareto front.
    """

    runs: tuple[Run, ...]
    metrics: Metrics
    deviation: Metrics
    rank: int | None = None
    pareto: bool = False

    @property
    def first(self) -> TrialRecords:
        """The trial of the lowest seed, which gives the row its name."""
        return self.runs[0].trial

    @property
    def status(self) -> str:
        """How its trials ended."""
        return self.runs[0].status

    @property
    def key(self) -> str | None:
        """Content address of the first trial; None where it did not run to its end."""
        return self.first.result.get("key")

    @property
    def name(self) -> str:
        """How people call it."""
        proposed = self.first.proposed
        return str(proposed.data["name"]) if proposed else self.first.id

    def interval(self, metric: str) -> tuple[float, float] | None:
        """Where the figure lies as far as seeds and the size of the validation set tell: the wider one of both.

        Seeds: mean ± one deviation, the figures that are shown. An accuracy of n examples: Wilson's interval, so wide
        that those of two equal accuracies overlap in 95 % of all cases (Goldstein & Healy 1995, JRSS A 158). A point
        where neither is known.
        """
        mean, deviation = self.metrics.get(metric), self.deviation.get(metric, 0.0)
        if mean is None:
            return None
        low, high = mean - deviation, mean + deviation
        # Seeds are measured on the same examples.
        count = max(run.validated for run in self.runs) if metric in PROPORTIONS else 0
        if count and 0.0 <= mean <= 1.0:
            wide = wilson(mean, count, DEVIATIONS / math.sqrt(2))
            low, high = min(low, wide[0]), max(high, wide[1])
        return low, high

    def as_data(self, metric: str) -> dict[str, Any]:
        """The row as ``compare --json`` has it; ``delta_dense`` is of `metric`."""
        deltas = [delta for run in self.runs if (delta := run.delta(metric)) is not None]
        proposed = self.first.proposed.data if self.first.proposed else {}
        return {
            "key": self.key,
            "name": self.name,
            "search": self.runs[0].search,
            "id": self.first.id,
            "paradigm": proposed.get("paradigm", ""),
            "params": {path: value for path, value in self.first.params.items() if path != "task.seed"},
            "metrics": dict(self.metrics),
            "deviation": dict(self.deviation),
            "seeds": len(self.runs),
            "trials": [f"{run.search}/{run.trial.id}" for run in self.runs],
            "rank": self.rank,
            "delta_dense": statistics.fmean(deltas) if deltas else None,
            "status": self.status,
            **({"paused": where_paused(self.first)} if self.status == PAUSED else {}),
            "error": None if self.first.ended is None else self.first.ended.data.get("error"),
            "pareto": self.pareto,
        }

    def stand_in(self) -> TrialRecords:
        """A trial whose metrics are the row's means, for what judges trials."""
        trial = self.first
        if trial.ended is None:
            return trial
        result = {**trial.result, "metrics": dict(self.metrics)}
        ended = Record(trial.id, "ended", 1, 0, trial.ended.time, {**trial.ended.data, "result": result})
        proposed = trial.proposed
        if proposed is not None:
            proposed = replace(proposed, data={**proposed.data, "duplicate_of": None})
        return TrialRecords(f"{self.runs[0].search}/{trial.id}", proposed, list(trial.attempts), [], ended)


def seen_by_a_search(metrics: Mapping[str, Any]) -> dict[str, float]:
    """The metrics that are finite numbers and not measured on test data."""
    hidden = {name for name, entry in axes.METRICS.items() if entry.facts.split == "test"}
    return {
        name: float(value)
        for name, value in metrics.items()
        if name not in hidden and not name.startswith("test/") and _finite(value)
    }


def _finite(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def dense_of(search: SearchRecords) -> dict[str, float]:
    """The metrics of the dense control, empty where it did not run to its end."""
    trial = search.trials.get(DENSE)
    return seen_by_a_search(trial.result["metrics"]) if trial is not None and trial.result else {}


def rows_of(searches: Sequence[SearchRecords]) -> list[Row]:
    """The trials that have ended, those that differ only in task.seed as one row; in the order of the records."""
    groups: dict[str, list[Run]] = {}
    for search in dict.fromkeys(search.name for search in searches):
        records = next(one for one in searches if one.name == search)
        dense, validated = dense_of(records), int(records.definition.get("validated") or 0)
        for trial in records.numbered():
            if trial.ended is not None:
                groups.setdefault(_without_seed(trial.recipe), []).append(Run(search, trial, dense, validated))
    return [_row(runs) for runs in groups.values()]


def _without_seed(recipe: Mapping[str, Any]) -> str:
    task = {key: value for key, value in recipe.get("task", {}).items() if key != "seed"}
    return digest_of({**recipe, "task": task})


def _row(runs: list[Run]) -> Row:
    """The runs of the status that tells most, one per seed: a recipe that was proposed twice is one run."""
    status = min((run.status for run in runs), key=place_of)
    seeds: dict[Any, Run] = {}
    for run in runs:
        if run.status == status:
            seeds.setdefault(run.seed, run)
    kept = tuple(sorted(seeds.values(), key=lambda run: (len(str(run.seed)), str(run.seed))))
    metrics, deviation = _moments([run.metrics for run in kept])
    return Row(kept, metrics, deviation)


def wilson(share: float, count: int, deviations: float = DEVIATIONS) -> tuple[float, float]:
    """The interval of a share of `count` independent examples (Wilson 1927, JASA 22, 209-212), of 95 % by default.

    Example:
        >>> [round(end, 3) for end in wilson(0.95, 360)]
        [0.922, 0.968]
    """
    z2 = deviations**2
    middle = (share + z2 / (2 * count)) / (1 + z2 / count)
    half = deviations / (1 + z2 / count) * math.sqrt(share * (1 - share) / count + z2 / (4 * count**2))
    return middle - half, middle + half


def place_of(status: str) -> int:
    """Where rows of a status come: those that ran to their end first."""
    return STATUSES.index(status) if status in STATUSES else len(STATUSES)


def _moments(measured: Sequence[Metrics]) -> tuple[dict[str, float], dict[str, float]]:
    """Means, and sample deviations where there are two values or more."""
    values: dict[str, list[float]] = {}
    for metrics in measured:
        for name, value in metrics.items():
            values.setdefault(name, []).append(value)
    means = {name: statistics.fmean(found) for name, found in values.items()}
    return means, {name: statistics.stdev(found) for name, found in values.items() if len(found) > 1}
