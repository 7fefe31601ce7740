"""Names of metrics: registered ones, and those that a task brings as ``val/NAME`` and ``test/NAME``."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from prune_search.recipe import axes
from prune_search.recipe.facts import Metric
from prune_search.recipe.problems import not_one_of

# In the place of a task's first metric, whatever it is.
LEADING = "val/METRIC"
ACCURACY, LOSS = "val/accuracy", "val/loss"
_TASK_METRIC = re.compile(r"val/[^\s/]+")


def metric_facts(name: str) -> Metric:
    """What is known of a metric; of one that a task brings, what its registered name says."""
    entry = axes.METRICS.get(name)
    if entry is not None:
        return entry.facts
    part, _, rest = name.partition("/")
    known = axes.TASK_METRICS.get(rest)
    split = {"val": "validation", "test": "test"}.get(part, "")
    return Metric(best="maximize" if known is None else known.facts.best, split=split, score=rest)


def is_share(name: str) -> bool:
    """Whether a metric is at most 1, so that 1% of it is 0.01."""
    known = axes.TASK_METRICS.get(name.partition("/")[2])
    return known is not None and known.facts.share


def searchable() -> list[str]:
    """The registered metrics that a search sees."""
    return [n for n, e in axes.METRICS.items() if not n.startswith("test/") and e.facts.split != "test"]


def can_be_a_tasks(name: str) -> bool:
    """Whether a name is of the form of a metric that a task brings."""
    return _TASK_METRIC.fullmatch(name) is not None


def wrong_metric(name: str, scores: Iterable[str]) -> str:
    """What is wrong with a metric where a task measures these scores on a split; an empty text where nothing is."""
    known = [*(f"val/{score}" for score in scores), *(n for n in searchable() if not metric_facts(n).score)]
    return "" if name in known else not_one_of(name, known)


def quality(objectives: Iterable[tuple[str, str]]) -> tuple[str, str]:
    """(direction, metric) that says how good a network is: the first objective that is measured on data."""
    found = next(((way, name) for way, name in objectives if name.startswith("val/")), None)
    return found or ("maximize", ACCURACY)


def lead(metrics: Mapping[str, Any]) -> str:
    """The measured metric that is shown where there is room for one: the accuracy, else a task's own, else the loss."""
    own = [name for name in metrics if name.startswith("val/") and name != LOSS]
    return ACCURACY if ACCURACY in metrics or not metrics else own[0] if own else LOSS


def resolved(search: Mapping[str, Any], scores: Iterable[str], best: Mapping[str, str]) -> dict[str, Any]:
    """A search block with a task's first metric in the place of ``val/METRIC``, and of an accuracy that nobody wrote.

    Where smaller is better, what is maximized is minimized, and what is at least a bound relative to the dense network
    is at most that; a bound of a metric that is no share is relative: ``dense - 1%`` becomes ``0.99 * dense``.

    Args:
        search: canonical.
        scores: the names of the task's metrics, without ``val/``.
        best: which way each is better.
    """
    from prune_search.recipe.search_block import DEFAULT_OBJECTIVES, parse_constraint

    names = [name for name in scores if name != "loss"] or ["loss"]
    first = f"val/{names[0]}"
    down = best.get(names[0], "minimize") == "minimize"
    objectives = list(search["objectives"])
    if objectives == DEFAULT_OBJECTIVES and ACCURACY.partition("/")[2] not in names:
        objectives[0] = f"maximize {LEADING}"
    made = [
        written if LEADING not in written.split() else f"{'minimize' if down else 'maximize'} {first}"
        for written in objectives
    ]
    constraints = []
    for written in search["constraints"]:
        metric, relation, bound = parse_constraint(written)
        if metric != LEADING:
            constraints.append(written)
            continue
        if down:
            relation = {">=": "<=", "<=": ">="}[relation]
        if bound.factor and bound.offset and not is_share(first):
            factor = bound.factor + (-bound.offset if down else bound.offset)
            value = f"{factor:g} * dense"
        elif bound.factor and bound.offset:
            value = f"dense {'+' if (bound.offset > 0) != down else '-'} {abs(bound.offset):g}"
        else:
            value = written.partition(relation if not down else {"<=": ">=", ">=": "<="}[relation])[2].strip()
        constraints.append(f"{first} {relation} {value}")
    return {**search, "objectives": made, "constraints": constraints}
