"""Compares two recipes: the keys in which they differ, and the difference of their metrics."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from prune_search.ledger.ranking import Goals
from prune_search.ledger.records import SearchRecords, TrialRecords, trial_id
from prune_search.report.rows import Metrics, Row, dense_of, rows_of, seen_by_a_search

MIN_DIGITS = 6


@dataclass(frozen=True)
class Side:
    """One of two recipes.

    Attributes:
        name: how people call it.
        search: that it is from; None for a recipe that no search has run.
        key: content address; None where it has not run to its end.
        recipe: canonical.
        metrics: means over its seeds; empty for a recipe that was not run.
        deviation: sample standard deviations over the seeds.
        seeds: how many.
    """

    name: str
    search: str | None
    key: str | None
    recipe: Mapping[str, Any]
    metrics: Metrics = field(default_factory=dict)
    deviation: Metrics = field(default_factory=dict)
    seeds: int = 0

    @classmethod
    def of(cls, row: Row) -> Side:
        """A row of a comparison."""
        found = (row.first.recipe, row.metrics, row.deviation, len(row.runs))
        return cls(row.name, row.runs[0].search, row.key, *found)


def names_in(search: SearchRecords) -> list[str]:
    """How people call the trials of a search that have ended, its controls among them."""
    return [_name(trial) for trial in search.trials.values() if trial.ended is not None]


def side_in(searches: Sequence[SearchRecords], text: str) -> Side | None:
    """The trial of searches with a name, a number or a key (or its first six digits), its seeds taken together.

    Args:
        searches: where it is looked for, in this order.
        text: what it is called; empty: the best of the first search.
    """
    called = trial_id(int(text)) if text.isdecimal() and len(text) < MIN_DIGITS else text
    for search in searches:
        wanted = [trial for trial in search.trials.values() if trial.ended is not None and _called(trial, called)]
        if not text:
            block = search.definition["space"]["search"]
            best, _ = Goals.of(block).best([row.stand_in() for row in rows_of([search])], dense_of(search) or None)
            wanted = [] if best is None else [search.trials[best.id.rpartition("/")[2]]]
        for trial in wanted:
            if trial.control:
                found = seen_by_a_search(trial.metrics)
                return Side(trial.id, search.name, trial.result.get("key"), trial.recipe, found, {}, 1)
            for row in rows_of([search]):
                if any(run.trial is trial for run in row.runs):
                    return Side.of(row)
    return None


def _called(trial: TrialRecords, text: str) -> bool:
    key = str(trial.result.get("key") or "")
    return text in (trial.id, _name(trial)) or (len(text) >= MIN_DIGITS and key.startswith(text))


def _name(trial: TrialRecords) -> str:
    return str(trial.proposed.data["name"]) if trial.proposed is not None else trial.id


def difference(a: Side, b: Side) -> dict[str, Any]:
    """What ``compare --diff A B`` shows.

    Returns:
        ``a`` and ``b`` (name, search, key, seeds); ``recipe``: per dotted key in which the canonical recipes differ,
        its value on either side (None: it is not there); ``metrics``: per metric that a side has, its mean on either
        side (``a``, ``b``), the deviations over the seeds, and ``difference``, b minus a (None where a side lacks it).

    Example:
        >>> one = Side("one", None, None, {"rounds": 1, "mask": {"at": "end"}})
        >>> difference(one, Side("two", None, None, {"rounds": 3, "mask": {"at": "end"}}))["recipe"]
        [{'key': 'rounds', 'a': 1, 'b': 3}]
    """
    first, second = dict(_leaves(a.recipe, "")), dict(_leaves(b.recipe, ""))
    keys = [key for key in dict.fromkeys((*first, *second)) if first.get(key) != second.get(key)]
    return {
        "a": _told(a),
        "b": _told(b),
        "recipe": [{"key": key, "a": first.get(key), "b": second.get(key)} for key in keys],
        "metrics": [_figures(a, b, name) for name in dict.fromkeys((*a.metrics, *b.metrics))],
    }


def _told(side: Side) -> dict[str, Any]:
    return {"name": side.name, "search": side.search, "key": side.key, "seeds": side.seeds}


def _figures(a: Side, b: Side, name: str) -> dict[str, Any]:
    one, two = a.metrics.get(name), b.metrics.get(name)
    return {
        "metric": name,
        "a": one,
        "b": two,
        "deviation_a": a.deviation.get(name),
        "deviation_b": b.deviation.get(name),
        "difference": None if one is None or two is None else two - one,
    }


def _leaves(node: Any, path: str) -> Iterator[tuple[str, Any]]:
    """Everything that a recipe says, by dotted path; an empty list or mapping is one thing."""
    items: list[tuple[Any, Any]] = []
    if isinstance(node, Mapping):
        items = list(node.items())
        if set(node) == {"name"}:
            # A registered value without options is written as its name.
            items, node = [], node["name"]
    elif isinstance(node, list):
        items = list(enumerate(node))
    if not items:
        yield path, node
    for key, value in items:
        yield from _leaves(value, f"{path}.{key}" if path else str(key))
