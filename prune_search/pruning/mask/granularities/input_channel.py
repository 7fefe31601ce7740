"""Input channels: all weights of one layer that read the same input channel."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prune_search.recipe.axes import GRANULARITIES
from prune_search.recipe.facts import Granularity

if TYPE_CHECKING:
    from torch import Tensor


@GRANULARITIES.register(
    "input-channel",
    summary="input channels of each layer by itself, or inputs (columns) of a linear layer; outputs stay",
    source="He, Zhang & Sun 2017, Channel Pruning, 1707.06168; Wang et al. 2021, 2012.09243 (its code: --wg channel)",
    facts=Granularity(convolutional_default=True, structured=True, by_inputs=True),
)
def input_channel(tensor: Tensor) -> Tensor:
    """A weight [outputs, inputs, *kernel] as [inputs, outputs · places of the kernel].

    The layer before is not touched: see granularity channel for channels that go together. Of a grouped convolution an
    input is read by the outputs of its group only.
    """
    return tensor.transpose(0, 1).reshape(tensor.shape[1], -1)
