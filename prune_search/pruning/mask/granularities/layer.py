"""Whole layers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prune_search.recipe.axes import GRANULARITIES
from prune_search.recipe.facts import Granularity

if TYPE_CHECKING:
    from torch import Tensor


@GRANULARITIES.register(
    "layer",
    summary="whole layers; the output layer is not pruned",
    facts=Granularity(output_layer=False, structured=True),
)
def layer(tensor: Tensor) -> Tensor:
    """A weight as one unit, [1, weights]."""
    return tensor.reshape(1, -1)
