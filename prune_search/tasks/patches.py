"""What each output of a layer sees of its input."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn


def patches(layer: nn.Module, inputs: Tensor) -> Tensor | None:
    """What each output of a layer sees: [examples, groups, places, inputs of a group, flat as a row of the weight].

    None for layers whose weight is no matrix from what is seen to an output (transposed convolutions).
    """
    if isinstance(layer, torch.nn.Linear):
        return inputs.reshape(inputs.shape[0], 1, -1, inputs.shape[-1])
    if not isinstance(layer, torch.nn.modules.conv._ConvNd) or layer.transposed:
        return None
    mode = "constant" if layer.padding_mode == "zeros" else layer.padding_mode
    value = torch.nn.functional.pad(inputs, layer._reversed_padding_repeated_twice, mode=mode)
    dims = len(layer.kernel_size)
    for dim, (size, stride, dilation) in enumerate(
        zip(layer.kernel_size, layer.stride, layer.dilation, strict=True), start=2
    ):
        value = value.unfold(dim, (size - 1) * dilation + 1, stride)[..., ::dilation]
    # [N, C, *places, *kernel] -> [N, groups, places, C / groups * kernel]
    count, channels = value.shape[:2]
    value = value.reshape(count, layer.groups, channels // layer.groups, *value.shape[2:])
    order = (0, 1, *range(3, 3 + dims), 2, *range(3 + dims, 3 + 2 * dims))
    seen: Tensor = value.permute(order)
    return seen.reshape(count, layer.groups, math.prod(seen.shape[2 : 2 + dims]), -1)
