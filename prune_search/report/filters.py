"""Filters and groups the rows of a comparison: ``--where`` and ``--by``."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from prune_search.ledger.ranking import Goals, total_violation
from prune_search.recipe.problems import Problem, UserError, not_one_of
from prune_search.recipe.reading import Reading
from prune_search.recipe.search_block import Bound, Constraint, parse_constraint
from prune_search.report.rows import Metrics, Row

# What every row can be grouped by, besides the keys of its recipe.
FIXED: Mapping[str, Callable[[Row], str]] = {
    "paradigm": lambda row: str(row.first.proposed.data.get("paradigm", "")) if row.first.proposed else "",
    "search": lambda row: row.runs[0].search,
    "status": lambda row: row.status,
}
MAX_VALUE = 60


@dataclass(frozen=True)
class Filters:
    """What ``--where`` asks for, all of it at once.

    Attributes:
        conditions: (metric, ``>=`` or ``<=``, bound).
        dense: metrics that bounds are relative to.
    """

    conditions: tuple[tuple[str, str, Bound], ...]
    dense: Metrics

    @classmethod
    def read(cls, written: Sequence[str], dense: Metrics) -> Filters:
        """Conditions as they are typed.

        Args:
            written: ``METRIC >= VALUE`` or ``METRIC <= VALUE``, the value as in a search's constraints.
            dense: metrics of the dense network; empty where there is none.

        Raises:
            UserError: every one that is no condition, names no metric or one of test data, or is relative to a figure
                of a dense network that is not there.

        Example:
            >>> Filters.read(["sparsity>=90%"], {}).keeps({"sparsity": 0.95})
            True
        """
        reading = Reading()
        canonical = [Constraint().read(text, "--where", reading) for text in written]
        problems = list(reading.problems)
        if not problems:
            found = tuple(parse_constraint(text) for text in canonical)
            problems = [
                Problem("--where", f"{metric} of the dense network is not known, but {text!r} is relative to it")
                for (metric, _, bound), text in zip(found, canonical, strict=True)
                if bound.factor and metric not in dense
            ]
        if problems:
            raise UserError(problems)
        return cls(found, dense)

    def keeps(self, metrics: Mapping[str, Any]) -> bool:
        """Whether a network meets all conditions; one without a metric that is asked for does not."""
        violations = Goals((), self.conditions).violations(metrics, self.dense)
        return total_violation(violations) == 0.0


def grouped(rows: Sequence[Row], by: str, metric: str) -> list[dict[str, Any]]:
    """The rows put together by what they have in common, the group of the best row first.

    Args:
        rows: ranked, best first.
        by: ``paradigm``, ``search``, ``status``, or a dotted key of the recipe such as ``mask.criterion``; a registered
            value with options counts by its name.
        metric: whose mean and extremes are told.

    Returns:
        Per group ``value``, ``rows``, ``completed``, ``pareto`` (how many rows), ``best`` (the key of its first row),
        ``name``, ``metrics`` and ``deviation`` of that row, and ``mean``, ``least`` and ``most`` of the metric over its
        completed rows (None where there is none).

    Raises:
        UserError: no row has such a key.
    """
    values = [_value(row, by) for row in rows]
    if rows and all(value is None for value in values):
        known = sorted({*FIXED, *(key for row in rows for key in _keys(row))})
        raise UserError([Problem("--by", not_one_of(by, known))])
    groups: dict[str, list[Row]] = {}
    for row, value in zip(rows, values, strict=True):
        groups.setdefault("–" if value is None else value, []).append(row)
    return [_group(value, found, metric) for value, found in groups.items()]


def _group(value: str, rows: Sequence[Row], metric: str) -> dict[str, Any]:
    done = [row for row in rows if row.status == "completed"]
    figures = [row.metrics[metric] for row in done if metric in row.metrics]
    first = rows[0]
    return {
        "value": value,
        "rows": len(rows),
        "completed": len(done),
        "pareto": sum(row.pareto for row in rows),
        "best": first.key,
        "name": first.name,
        "metrics": dict(first.metrics),
        "deviation": dict(first.deviation),
        "mean": statistics.fmean(figures) if figures else None,
        "least": min(figures, default=None),
        "most": max(figures, default=None),
    }


def _value(row: Row, by: str) -> str | None:
    if by in FIXED:
        return FIXED[by](row)
    found = row.first.params.get(by, _walked(row.first.recipe, by))
    if isinstance(found, Mapping) and "name" in found:
        found = found["name"]
    return None if found is None else str(found)[:MAX_VALUE]


def _walked(node: Any, path: str) -> Any:
    """What stands at a dotted path of plain data; None where there is nothing."""
    for part in path.split("."):
        if isinstance(node, Mapping):
            node = node.get(part)
        elif isinstance(node, list) and part.isdigit() and int(part) < len(node):
            node = node[int(part)]
        else:
            return None
    return node


def _keys(row: Row) -> Iterator[str]:
    """What drew the row, and the keys of its recipe down to the second level."""
    yield from row.first.params
    for block, content in row.first.recipe.items():
        if isinstance(content, Mapping):
            yield from (f"{block}.{key}" for key in content)
        else:
            yield block
