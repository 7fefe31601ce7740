"""Searches compared: one row per recipe, its seeds taken together, as plain data. No torch.

What a search never sees is not compared either: metrics of test data are left out of every row.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from prune_search.recipe import axes
from prune_search.recipe.problems import Problem, UserError, not_one_of, shown
from prune_search.recipe.recipe import digest_of
from prune_search.recipe.search_block import parse_objective
from prune_search.report.points import points_data
from prune_search.trial.account import total
from prune_search.trial.ranking import Goals
from prune_search.trial.records import Record, SearchRecords, TrialRecords

DENSE = "control-dense"
ACCURACY = "val/accuracy"
# In the order in which rows are shown: what ran to its end comes first.
STATUSES = ("completed", "stopped", "failed")

Metrics = Mapping[str, float]


@dataclass(frozen=True)
class Run:
    """One trial of one search.

    Attributes:
        search: the name of the search.
        trial: its records; it has ended.
        dense: the metrics of that search's dense network; empty where there is none.
    """

    search: str
    trial: TrialRecords
    dense: Metrics

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

    @property
    def delta(self) -> float | None:
        """val/accuracy minus that of the same search's dense network."""
        mine, dense = self.metrics.get(ACCURACY), self.dense.get(ACCURACY)
        return None if mine is None or dense is None else mine - dense


@dataclass(frozen=True)
class Row:
    """Trials that differ only in task.seed, as one.

    Attributes:
        runs: one per seed, all of one status, the lowest seed first.
        metrics: means over the seeds.
        deviation: sample standard deviations over the seeds; empty with one seed.
        rank: from 1, shared where intervals overlap; None where it is not ranked.
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
        """Mean ± one deviation, the figures that are shown; a point with one seed."""
        mean, deviation = self.metrics.get(metric), self.deviation.get(metric, 0.0)
        return None if mean is None else (mean - deviation, mean + deviation)

    def as_data(self) -> dict[str, Any]:
        """The row as ``compare --json`` has it."""
        deltas = [run.delta for run in self.runs if run.delta is not None]
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


def compare_data(searches: Sequence[SearchRecords], sort: str | None = None) -> dict[str, Any]:
    """What ``compare --json`` prints.

    Args:
        searches: one or more on the same data set. Objectives and constraints are those of the first one, and so is
            the dense network that constraints are relative to; ``delta_dense`` is relative to each row's own.
        sort: the metric that rows are ranked by, its better end first; None: the first objective.

    Returns:
        ``rows``, ranked ones first; ``pareto``, the keys of the rows on the Pareto front; ``points``, the networks
        after earlier rounds of the chains (see `points`); ``controls``; ``steps``, what each search trained, saved,
        replayed, repeated and abandoned (see `trial.account`); ``best``, the key of the best row, or None;
        ``constraints_met``, whether it meets the constraints; and ``searches``, ``simulated`` (the surface, or None),
        ``objectives``, ``constraints``, ``sort``.

    Raises:
        UserError: there is no such metric, it is measured on test data, or the searches are on different data.
    """
    if not searches:
        raise UserError("name at least one search to compare")
    _check_same_data(searches)
    block = searches[0].definition["space"]["search"]
    direction, metric = parse_objective(block["objectives"][0]) if sort is None else (_better_end(sort), sort)
    goals, dense = Goals.of(block), _dense(searches[0])
    rows = _ranked(_rows(searches), metric, direction, goals)
    done = {row.stand_in().id: row for row in rows if row.status == "completed"}
    stand_ins = [row.stand_in() for row in done.values()]
    front = {trial.id for trial in goals.pareto(stand_ins, dense or None)}
    best, met = goals.best(stand_ins, dense or None)
    rows = [replace(row, pareto=row.status == "completed" and row.stand_in().id in front) for row in rows]
    return {
        "searches": [search.name for search in searches],
        "simulated": searches[0].simulated,
        "objectives": list(block["objectives"]),
        "constraints": list(block["constraints"]),
        "sort": f"{direction} {metric}",
        "rows": [row.as_data() for row in rows],
        "pareto": [row.key for row in rows if row.pareto],
        "points": points_data(searches, stand_ins, goals, dense or None),
        "controls": [_control(search, trial) for search in searches for trial in search.controls()],
        "steps": {search.name: total(search.trials.values()).as_data() for search in searches},
        "best": done[best.id].key if best is not None else None,
        "constraints_met": best is not None and met,
    }


def seen_by_a_search(metrics: Mapping[str, Any]) -> dict[str, float]:
    """The metrics that are finite numbers and not measured on test data."""
    hidden = {name for name, entry in axes.METRICS.items() if entry.facts["split"] == "test"}
    return {
        name: float(value)
        for name, value in metrics.items()
        if name not in hidden and not name.startswith("test/") and _finite(value)
    }


def _finite(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _better_end(metric: str) -> str:
    searchable = [name for name, entry in axes.METRICS.items() if entry.facts["split"] != "test"]
    if metric in axes.METRICS and metric not in searchable:
        text = f"{shown(metric)} is measured on test data, by which nothing is ranked; it is in an export"
        raise UserError([Problem("--sort", text)])
    if metric not in searchable:
        raise UserError([Problem("--sort", not_one_of(metric, searchable))])
    return str(axes.METRICS[metric].facts["best"])


def _check_same_data(searches: Sequence[SearchRecords]) -> None:
    first = searches[0]
    problems = [
        Problem(
            "",
            f"is on {_data(other)}, and {first.name} on {_data(first)}: figures of one data set only can be compared",
            other.name,
        )
        for other in searches[1:]
        if _data(other) != _data(first)
    ]
    problems += [
        Problem(
            "",
            f"is {_kind(other)}, and {first.name} {_kind(first)}: only figures of one kind can be compared",
            other.name,
        )
        for other in searches[1:]
        if other.definition.get("simulated") != first.definition.get("simulated")
    ]
    if problems:
        raise UserError(problems)


def _kind(search: SearchRecords) -> str:
    return "trained" if search.simulated is None else f"simulated ({search.simulated})"


def _data(search: SearchRecords) -> str:
    return str(search.definition.get("task", {}).get("data"))


def _dense(search: SearchRecords) -> dict[str, float]:
    """The metrics of the dense control, empty where it did not run to its end."""
    trial = search.trials.get(DENSE)
    return seen_by_a_search(trial.result["metrics"]) if trial is not None and trial.result else {}


# --- rows ---------------------------------------------------------------------------------------------------------


def _rows(searches: Sequence[SearchRecords]) -> list[Row]:
    groups: dict[str, list[Run]] = {}
    for search in dict.fromkeys(search.name for search in searches):
        records = next(one for one in searches if one.name == search)
        dense = _dense(records)
        for trial in records.numbered():
            if trial.ended is not None:
                groups.setdefault(_without_seed(trial.recipe), []).append(Run(search, trial, dense))
    return [_row(runs) for runs in groups.values()]


def _without_seed(recipe: Mapping[str, Any]) -> str:
    task = {key: value for key, value in recipe.get("task", {}).items() if key != "seed"}
    return digest_of({**recipe, "task": task})


def _row(runs: list[Run]) -> Row:
    """The runs of the status that tells most, one per seed: a recipe that was proposed twice is one run."""
    status = min((run.status for run in runs), key=_place)
    seeds: dict[Any, Run] = {}
    for run in runs:
        if run.status == status:
            seeds.setdefault(run.seed, run)
    kept = tuple(sorted(seeds.values(), key=lambda run: (len(str(run.seed)), str(run.seed))))
    metrics, deviation = _moments([run.metrics for run in kept])
    return Row(kept, metrics, deviation)


def _place(status: str) -> int:
    return STATUSES.index(status) if status in STATUSES else len(STATUSES)


def _moments(measured: Sequence[Metrics]) -> tuple[dict[str, float], dict[str, float]]:
    """Means, and sample deviations where there are two values or more."""
    values: dict[str, list[float]] = {}
    for metrics in measured:
        for name, value in metrics.items():
            values.setdefault(name, []).append(value)
    means = {name: statistics.fmean(found) for name, found in values.items()}
    return means, {name: statistics.stdev(found) for name, found in values.items() if len(found) > 1}


# --- ranks --------------------------------------------------------------------------------------------------------


def _ranked(rows: Iterable[Row], metric: str, direction: str, goals: Goals) -> list[Row]:
    """Best first, ties as `Goals.best` breaks them; rows that did not run to their end come last, without a rank."""
    sign = -1.0 if direction == "maximize" else 1.0

    def order(row: Row) -> tuple[int, bool, float, tuple[float, ...], str]:
        mean = row.metrics.get(metric)
        next_best = tuple(-value for value in goals.signed(goals.values(row.metrics) or (0.0,) * len(goals.objectives)))
        return (_place(row.status), mean is None, 0.0 if mean is None else sign * mean, next_best, row.key or row.name)

    rows = sorted(rows, key=order)
    ranks = shared_ranks([row.interval(metric) if row.status == "completed" else None for row in rows])
    return [replace(row, rank=rank) for row, rank in zip(rows, ranks, strict=True)]


def shared_ranks(intervals: Sequence[tuple[float, float] | None]) -> list[int | None]:
    """Ranks from 1: rows whose intervals overlap share one, directly or through a row between them.

    Args:
        intervals: (low, high) of each row, in the order of their middles; None for a row without a rank.

    Example:
        >>> shared_ranks([(0.9, 1.0), (0.8, 0.92), (0.5, 0.5), None])
        [1, 1, 3, None]
    """
    ranks: list[int | None] = [None] * len(intervals)
    known = sorted((interval, index) for index, interval in enumerate(intervals) if interval is not None)
    groups: list[list[int]] = []
    reach = -math.inf
    for (low, high), index in known:
        if groups and low <= reach:
            groups[-1].append(index)
        else:
            groups.append([index])
        reach = max(reach, high)
    for group in groups:
        best = min(group)
        before = sum(1 for other in groups if min(other) < best for _ in other)
        for index in group:
            ranks[index] = before + 1
    return ranks


# --- controls -----------------------------------------------------------------------------------------------------


def _control(search: SearchRecords, trial: TrialRecords) -> dict[str, Any]:
    run = Run(search.name, trial, _dense(search))
    return {
        "key": trial.result.get("key"),
        "name": trial.id,
        "search": search.name,
        "id": trial.id,
        "paradigm": trial.proposed.data.get("paradigm", "") if trial.proposed else "",
        "metrics": run.metrics,
        "delta_dense": run.delta,
        "status": trial.status,
    }
