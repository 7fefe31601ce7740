"""Filters: one output unit of a convolution or linear layer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prune_search.recipe.axes import GRANULARITIES

if TYPE_CHECKING:
    from torch import Tensor


@GRANULARITIES.register(
    "filter",
    summary="filters; of a linear layer, output units (rows); the output layer takes no part",
    source="Li et al. 2017, Pruning Filters for Efficient ConvNets, 1608.08710",
    output_layer=False,
    convolutional_default=True,
    structured=True,
    by_channels=True,
    removes_outputs=True,
)
def filter_(tensor: Tensor) -> Tensor:
    """A weight tensor as [units, weights of a unit]: all weights of one output unit are a unit."""
    return tensor.reshape(tensor.shape[0], -1)
