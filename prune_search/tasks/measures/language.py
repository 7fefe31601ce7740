"""Metrics of language models, which follow from the cross-entropy of each token."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from prune_search.recipe.axes import TASK_METRICS
from prune_search.recipe.facts import TaskMetric
from prune_search.tasks.tallies import Mean, Seen, classified, shifted

if TYPE_CHECKING:
    import torch
else:
    from prune_search.lazy import torch


def _nats(target: str, seen: Seen) -> tuple[float, float]:
    prepare = shifted if target == "tokens" else classified
    scores, targets = prepare(seen.scores, seen.target)
    return float(torch.nn.functional.cross_entropy(scores, targets, reduction="sum")), float(targets.numel())


@TASK_METRICS.register(
    "perplexity",
    summary="exponential of the mean cross-entropy of a token, at least 1",
    source="common practice",
    facts=TaskMetric(best="minimize"),
)
def perplexity(target: str, classes: int) -> Mean:
    """Over all tokens alike, those of short sequences too."""
    return Mean(lambda seen: _nats(target, seen), _exponential)


def _exponential(nats: float) -> float:
    return math.exp(nats) if nats < 700 else math.inf


@TASK_METRICS.register(
    "bits-per-byte",
    summary="mean cross-entropy of a token in bits, where tokens are bytes",
    source="common practice",
    facts=TaskMetric(best="minimize"),
)
def bits_per_byte(target: str, classes: int) -> Mean:
    """The mean cross-entropy over log 2: bits per character where tokens are characters."""
    return Mean(lambda seen: _nats(target, seen), lambda nats: nats / math.log(2))
