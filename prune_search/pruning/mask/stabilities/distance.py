"""Stability by mask distance: decides when a mask has settled during training."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from prune_search.recipe.axes import STABILITIES

if TYPE_CHECKING:
    from torch import Tensor


@STABILITIES.register(
    "mask-distance",
    summary="share of units by which the masks of two epochs differ (early-bird tickets)",
    source="You et al. 2020, Drawing Early-Bird Tickets, 1909.11957, section 3.2 and algorithm 1",
)
def mask_distance(before: Mapping[str, Tensor], after: Mapping[str, Tensor]) -> float:
    """The normalized Hamming distance, 0 … 1.

    Args:
        before: per layer, bool [units], True where kept.
        after: the same of a later step.

    Example:
        Masks 1100 and 1010 differ in two of four units: 0.5.
    """
    total = sum(mask.numel() for mask in after.values())
    differing = sum(int((mask != before[name]).sum()) for name, mask in after.items())
    return differing / total if total else 0.0
