"""Reductions from the scores of a unit's weights, [units, weights of a unit], to one score per unit, [units]."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from torch import Tensor

    from prune_search.recipe.facts import Criterion
    from prune_search.recipe.recipe import Named

Reduction = Callable[["Tensor"], "Tensor"]


def over_not_smaller(sizes: Tensor) -> Tensor:
    """Each size over the sum of all that are not smaller, its equals and itself among them; 0 where it is 0.

    Args:
        sizes: [units], at least 0.

    Example:
        >>> over_not_smaller(torch.tensor([1.0, 4.0, 4.0])).tolist()
        [0.1111111119389534, 0.5, 0.5]
    """
    ordered = torch.sort(sizes).values
    above = ordered.flip(0).cumsum(0).flip(0)
    sums = above[torch.searchsorted(ordered, sizes)]
    return torch.where(sizes > 0, sizes / sums.clamp(min=torch.finfo(sizes.dtype).tiny), 0.0)


def lamp(weights: Tensor) -> Tensor:
    """‖u‖² over the sum of ‖v‖² of all units v of the layer with ‖v‖ ≥ ‖u‖; u and its equals are among them.

    Args:
        weights: [units, weights of a unit].

    Returns:
        [units], in (0, 1], 0 for units of zeros. Float64.

    Source:
        Lee, Park, Mo, Ahn & Shin 2021, 2010.07611, eq. 3.

    Example:
        >>> lamp(torch.tensor([[1.0], [-2.0], [3.0]])).tolist()
        [0.07142857142857142, 0.3076923076923077, 1.0]
    """
    return over_not_smaller(weights.double().square().sum(1))


def distances(weights: Tensor) -> Tensor:
    """Σ_j ‖F_i - F_j‖₂ over the units of the layer (He et al. 2019, 1811.00250, eq. 4).

    Args:
        weights: [units, weights of a unit].
    """
    rows = weights.double()
    # Blocks of rows, so that a wide layer needs no matrix of all differences; no shortcut through inner products,
    # which would lose the digits of filters that are nearly equal.
    blocks = [
        torch.cdist(block, rows, compute_mode="donot_use_mm_for_euclid_dist").sum(1)
        for block in torch.split(rows, 1024)
    ]
    return torch.cat(blocks)


REDUCTIONS: dict[str, Reduction] = {
    "sum": lambda scores: scores.sum(1) if scores.shape[1] > 1 else scores[:, 0],
    "mean": lambda scores: scores.mean(1),
    # As the mean; of coupled channels, over those that read them.
    "readers": lambda scores: scores.mean(1),
    "sum-abs": lambda scores: scores.abs().sum(1),
    "abs-sum": lambda scores: scores.sum(1).abs(),
    # In double, because squares of small sensitivities vanish in single precision.
    "square-sum": lambda scores: scores.double().sum(1).square(),
    "sum-square": lambda scores: scores.double().square().sum(1),
    "norm": lambda scores: torch.linalg.vector_norm(scores, dim=1),
    "lamp": lamp,
    "distances": distances,
}


# Those that leave the score of a unit of one weight as it is.
PLAIN = frozenset(("sum", "mean", "readers"))


def reduction_name(facts: Criterion, options: Mapping[str, Any]) -> str:
    """The name of a criterion's reduction; it may depend on the criterion's options."""
    told = facts.reduce
    return str(told(**options) if callable(told) else told)


def reduction(criterion: Named) -> Reduction:
    """A criterion's reduction."""
    from prune_search.recipe import axes

    return REDUCTIONS[reduction_name(criterion.entry(axes.CRITERIA).facts, criterion.options)]
