"""Criteria that need no data: all, random, magnitude, l1."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prune_search.recipe.axes import CRITERIA
from prune_search.recipe.facts import Criterion

if TYPE_CHECKING:
    import torch

    from prune_search.pruning.mask.scoring import Scores, Scoring
else:
    from prune_search.lazy import torch


def _each_absolute(scoring: Scoring) -> dict[str, list[float]]:
    """The slow definition of |w|: one Python number at a time."""
    return {name: [abs(value) for value in weight.flatten().tolist()] for name, weight in scoring.dense.items()}


def _ones(scoring: Scoring) -> dict[str, list[float]]:
    return {name: [1.0] * weight.numel() for name, weight in scoring.dense.items()}


def _one_draw_at_a_time(scoring: Scoring) -> dict[str, list[float]]:
    """The slow definition of the random scores: the generator is asked for one number after the other."""
    from prune_search.training.randomness import generator

    found = {}
    for name, weight in scoring.dense.items():
        source = generator(scoring.seed, "criterion", "random", scoring.words[0], name)
        found[name] = [float(torch.rand((), generator=source)) for _ in range(weight.numel())]
    return found


@CRITERIA.register(
    "all",
    summary="everything is kept",
    source="nothing is scored",
    facts=Criterion(keeps_all=True, reduce="sum", oracle=_ones, sharded=True),
)
def all_(scoring: Scoring) -> Scores:
    """The same score for every weight."""
    return {name: torch.ones_like(weight) for name, weight in scoring.dense.items()}


@CRITERIA.register(
    "random",
    summary="uniform random scores",
    source="Liu et al. 2022, The Unreasonable Effectiveness of Random Pruning, 2202.02643",
    facts=Criterion(reduce="sum", oracle=_one_draw_at_a_time, passes_over_shards=True),
)
def random(scoring: Scoring) -> Scores:
    """Independent scores, uniform in [0, 1), drawn per layer from the trial's seed and the round.

    The workers of a sharded network draw each layer whole, one after the other, and keep the scores of their rows.
    """
    from prune_search.tasks.shards import divided_like
    from prune_search.training.randomness import generator

    scores = {}
    for name, weight in scoring.dense.items():
        source = generator(scoring.seed, "criterion", "random", scoring.words[0], name)
        scores[name] = divided_like(torch.rand(weight.shape, generator=source), weight)
    return scores


@CRITERIA.register(
    "magnitude",
    summary="|w|; of a group, the sum",
    source="Han et al. 2015, 1506.02626",
    facts=Criterion(oracle=_each_absolute, sharded=True),
)
def magnitude(scoring: Scoring) -> Scores:
    """|w| of the unmasked weights, shaped like them."""
    return {name: weight.abs() for name, weight in scoring.dense.items()}


@CRITERIA.register(
    "l1",
    summary="L1 norm of a group: Σ|w|",
    source="Li et al. 2017, Pruning Filters for Efficient ConvNets, 1608.08710",
    facts=Criterion(oracle=_each_absolute, sharded=True),
)
def l1(scoring: Scoring) -> Scores:
    """|w| of the unmasked weights, shaped like them; the group sums them."""
    return {name: weight.abs() for name, weight in scoring.dense.items()}
