"""Kernels: the weights between one input and one output channel."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prune_search.recipe.axes import GRANULARITIES
from prune_search.recipe.facts import Granularity

if TYPE_CHECKING:
    from torch import Tensor


@GRANULARITIES.register(
    "kernel",
    summary="kernels, from one input to one output channel, or single weights of a linear layer",
    source="Mao et al. 2017, Exploring the Granularity of Sparsity, 1705.08922",
    facts=Granularity(structured=True, by_channels=True),
)
def kernel(tensor: Tensor) -> Tensor:
    """A weight [outputs, inputs, *kernel] as [outputs · inputs, places of the kernel]."""
    return tensor.reshape(tensor.shape[0] * tensor.shape[1], -1)
