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
    measured = [f"{part}/{score}" for part in ("val", "train") for score in scores]
    others = [n for n in searchable() if not metric_facts(n).score]
    known = [*(n for n in measured if n.startswith("val/") or n in axes.METRICS), *others]
    return "" if name in known else not_one_of(name, known)


def measured_on(data: object) -> tuple[str, ...]:
    """What is measured on a data set, besides the loss, as ``task.data`` names it; (): not known before it is read."""
    name = data.get("name") if isinstance(data, Mapping) else data
    entry = axes.DATASETS.get(name) if isinstance(name, str) else None
    return () if entry is None else entry.facts.metrics


def quality(objectives: Iterable[tuple[str, str]]) -> tuple[str, str]:
    """(direction, metric) that says how good a network is: the first objective that is measured on data."""
    found = next(((way, name) for way, name in objectives if name.startswith("val/")), None)
    return found or ("maximize", ACCURACY)


def lead(metrics: Mapping[str, Any]) -> str:
    """The measured metric that is shown where there is room for one: the accuracy, else a task's own, else the loss."""
    own = [name for name in metrics if name.startswith("val/") and name != LOSS]
    return ACCURACY if ACCURACY in metrics or not metrics else own[0] if own else LOSS
