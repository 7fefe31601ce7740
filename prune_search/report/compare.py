"""Compares searches: rows with ranks, the Pareto front and controls, as plain data. No torch."""

from __future__ import annotations

import bisect
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from prune_search.ledger.account import total
from prune_search.ledger.fidelities import fidelity_data
from prune_search.ledger.finalists import Winner, finalists_data, winner_of
from prune_search.ledger.ranking import Goals
from prune_search.ledger.records import SearchRecords, TrialRecords
from prune_search.recipe import axes
from prune_search.recipe.metric_names import can_be_a_tasks, metric_facts, quality, searchable
from prune_search.recipe.problems import Problem, UserError, not_one_of, shown
from prune_search.recipe.search_block import parse_objective
from prune_search.report.filters import Filters, grouped
from prune_search.report.matrix import matrix_data, sparsest_data
from prune_search.report.points import points_data
from prune_search.report.rows import Row, Run, dense_of, place_of, rows_of


@dataclass(frozen=True)
class Question:
    """What is asked of a comparison.

    Attributes:
        sort: the metric that rows are ranked by, its better end first; None: the first objective.
        only: conditions (see `filters.Filters`) that rows and points must meet.
        by: what the rows are put together by (see `filters.grouped`); None: nothing.
    """

    sort: str | None = None
    only: tuple[str, ...] = ()
    by: str | None = None


def compare_data(searches: Sequence[SearchRecords], question: Question | None = None) -> dict[str, Any]:
    """What ``compare --json`` prints.

    Args:
        searches: one or more on the same data set. Objectives and constraints are those of the first one, and so is
            the dense network that constraints are relative to; ``delta_dense`` is relative to each row's own, and of
            the metric that ranks, or where that is not measured on data, of the first objective that is.
        question: how rows are ranked, which are left out, and what they are put together by.

    Returns:
        ``matrix``, paradigms over sparsities (see `matrix`); ``rows``, ranked ones first; ``pareto``, the keys of the
        rows on the Pareto front; ``points``, the networks
        after earlier rounds of the chains (see `points`); ``controls``; ``steps``, what each search trained, saved,
        replayed, repeated and abandoned (see `ledger.account`); ``finalists``, by search, the best recipes repeated on
        new seeds (see `ledger.finalists`); ``fidelities``, by search, its low fidelities with their rank correlation
        (see `ledger.fidelities`; low-fidelity trials are in no row); ``best``, the key of the best row, or of the
        finalist with the best mean where one search is asked for, or None;
        ``constraints_met``, whether it meets the constraints; ``sparsest``, the sparsest row within one percent of the
        dense network (see `matrix.sparsest_data`); ``groups`` (see `filters.grouped`; empty without `by`),
        ``left_out``, how many rows `only` leaves out; and ``searches``, ``simulated`` (the surface, or None),
        ``objectives``, ``constraints``, ``sort``, ``where``, ``by``.

    Raises:
        UserError: there is no such metric or key, it is measured on test data, a condition is none, or the searches are
            on different data.
    """
    if not searches:
        raise UserError("name at least one search to compare")
    question = question or Question()
    _check_same_data(searches)
    block = searches[0].definition["space"]["search"]
    direction, metric = _ranked_by(block, question.sort)
    measured = quality([(direction, metric), *map(parse_objective, block["objectives"])])[1]
    goals, dense = Goals.of(block), dense_of(searches[0])
    conditions = Filters.read(question.only, dense)
    found = rows_of(searches)
    kept = [row for row in found if conditions.keeps(row.metrics)] if question.only else found
    rows = _ranked(kept, metric, direction, goals)
    done = {row.stand_in().id: row for row in rows if row.status == "completed"}
    stand_ins = [row.stand_in() for row in done.values()]
    front = {trial.id for trial in goals.pareto(stand_ins, dense or None)}
    ends = {search.name: winner_of(search) for search in searches}
    best, met = _best(done, goals, dense, ends[searches[0].name] if len(searches) == 1 else None)
    rows = [replace(row, pareto=row.status == "completed" and row.stand_in().id in front) for row in rows]
    told = [row.as_data(measured) for row in rows]
    ranking = [(direction, metric), *map(parse_objective, block["objectives"])]
    best_way = next((way for way, name in ranking if name == measured), metric_facts(measured).best)
    return {
        "searches": [search.name for search in searches],
        "simulated": searches[0].simulated,
        "objectives": list(block["objectives"]),
        "constraints": list(block["constraints"]),
        "sort": f"{direction} {metric}",
        "where": list(question.only),
        "by": question.by,
        "matrix": matrix_data(told, measured, best_way),
        "rows": told,
        "left_out": len(found) - len(kept),
        "groups": [] if question.by is None else grouped(rows, question.by, metric),
        "pareto": [row.key for row in rows if row.pareto],
        "points": points_data(searches, stand_ins, goals, dense or None, conditions.keeps),
        "controls": [_control(search, trial, measured) for search in searches for trial in search.controls()],
        "steps": {search.name: total(search.trials.values()).as_data() for search in searches},
        "finalists": {
            name: finalists_data(search, ends[name].finalists)
            for name, search in ((search.name, search) for search in searches)
            if ends[name].finalists
        },
        "fidelities": {search.name: forms for search in searches if (forms := fidelity_data(search))},
        "best": best,
        "constraints_met": met,
        "sparsest": sparsest_data(told, dense, block["objectives"]),
    }


def _best(
    done: Mapping[str, Row], goals: Goals, dense: Mapping[str, float], end: Winner | None
) -> tuple[str | None, bool]:
    """The key of the best row, or None, and whether it meets the constraints.

    Args:
        done: the completed rows, by the id of what stands for them.
        goals: what is better.
        dense: metrics of the dense network.
        end: what the search ends with, where one is asked for: its repetitions on new seeds choose, unless the
            condition leaves their recipe out.
    """
    best, met = goals.best([row.stand_in() for row in done.values()], dense or None)
    if end is not None and end.finalists and end.trial is not None:
        place = next((row for row in done.values() if any(run.trial is end.trial for run in row.runs)), None)
        if place is not None:
            return place.key, best is not None and end.met
    return (None, False) if best is None else (done[best.id].key, met)


def _ranked_by(block: Mapping[str, Any], sort: str | None) -> tuple[str, str]:
    """Direction and metric by which rows are ranked."""
    return parse_objective(block["objectives"][0]) if sort is None else (_better_end(sort), sort)


def _better_end(metric: str) -> str:
    known = searchable()
    if metric.startswith("test/") or (metric in axes.METRICS and metric not in known):
        text = f"{shown(metric)} is measured on test data, which is never used for ranking; it is part of an export"
        raise UserError([Problem("--sort", text)])
    if metric not in known and not can_be_a_tasks(metric):
        raise UserError([Problem("--sort", not_one_of(metric, known))])
    return str(metric_facts(metric).best)


def _check_same_data(searches: Sequence[SearchRecords]) -> None:
    first = searches[0]
    problems = [
        Problem(
            "",
            (
                f"is on {_data(other)}, and {first.name} on {_data(first)}: only searches on the same data set can "
                "be compared"
            ),
            other.name,
        )
        for other in searches[1:]
        if _data(other) != _data(first)
    ]
    problems += [
        Problem(
            "",
            f"is {_kind(other)}, and {first.name} {_kind(first)}: trained and simulated searches cannot be compared",
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


# --- ranks --------------------------------------------------------------------------------------------------------


def _ranked(rows: Iterable[Row], metric: str, direction: str, goals: Goals) -> list[Row]:
    """Best first, ties as `Goals.best` breaks them; rows that did not run to their end come last, without a rank."""
    sign = -1.0 if direction == "maximize" else 1.0

    def order(row: Row) -> tuple[int, bool, float, tuple[float, ...], str]:
        mean = row.metrics.get(metric)
        next_best = tuple(-value for value in goals.signed(goals.values(row.metrics) or (0.0,) * len(goals.objectives)))
        return (
            place_of(row.status),
            mean is None,
            0.0 if mean is None else sign * mean,
            next_best,
            row.key or row.name,
        )

    rows = sorted(rows, key=order)
    intervals = [row.interval(metric) if row.status == "completed" else None for row in rows]
    ranks = shared_ranks(intervals, direction == "maximize")
    return [replace(row, rank=rank) for row, rank in zip(rows, ranks, strict=True)]


def shared_ranks(intervals: Sequence[tuple[float, float] | None], larger: bool = True) -> list[int | None]:
    """Ranks from 1: one more than the rows whose whole interval is better.

    Args:
        intervals: (low, high) of each row; None for a row without a rank.
        larger: whether larger figures are better.

    Example:
        >>> shared_ranks([(0.9, 1.0), (0.8, 0.92), (0.5, 0.5), None])
        [1, 1, 3, None]
    """
    known = [interval if larger else (-interval[1], -interval[0]) for interval in intervals if interval is not None]
    lows = sorted(low for low, _ in known)
    ranks = iter([1 + len(lows) - bisect.bisect_right(lows, high) for _, high in known])
    return [None if interval is None else next(ranks) for interval in intervals]


# --- controls -----------------------------------------------------------------------------------------------------


def _control(search: SearchRecords, trial: TrialRecords, metric: str) -> dict[str, Any]:
    run = Run(search.name, trial, dense_of(search))
    return {
        "key": trial.result.get("key"),
        "name": trial.id,
        "search": search.name,
        "id": trial.id,
        "paradigm": trial.proposed.data.get("paradigm", "") if trial.proposed else "",
        "metrics": run.metrics,
        "delta_dense": run.delta(metric),
        "status": trial.status,
    }
