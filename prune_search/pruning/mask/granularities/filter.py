"""Filters: one output unit of a convolution or linear layer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prune_search.recipe.axes import GRANULARITIES
from prune_search.recipe.facts import Granularity
from prune_search.recipe.fields import Integer
from prune_search.recipe.registry import Option

if TYPE_CHECKING:
    from torch import Tensor


MULTIPLE = Option(
    Integer(1, 1024), 1, "round the number of units kept per layer to a multiple of this, e.g. 8 or 16", later=True
)


@GRANULARITIES.register(
    "filter",
    summary="filters, or output units (rows) of a linear layer; the output layer is not pruned",
    source="Li et al. 2017, Pruning Filters for Efficient ConvNets, 1608.08710",
    options={"multiple": MULTIPLE},
    facts=Granularity(
        output_layer=False, convolutional_default=True, structured=True, by_channels=True, removes_outputs=True
    ),
)
def filter_(tensor: Tensor, *, multiple: int = 1) -> Tensor:
    """A weight tensor as [units, weights of a unit]: all weights of one output unit are a unit."""
    del multiple
    return tensor.reshape(tensor.shape[0], -1)
