"""Metrics as a plug-in registers them, for the length of a test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from prune_search.recipe.axes import METRICS
from prune_search.recipe.facts import Metric
from prune_search.tasks.metrics import Measured


@contextmanager
def registered(name: str, measure: Callable[[Measured], float], facts: Metric) -> Iterator[str]:
    """A metric of one's own; its name."""
    METRICS.register(name, summary="of a test", facts=facts)(measure)
    try:
        yield name
    finally:
        METRICS.withdraw(name)
