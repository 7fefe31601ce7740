"""Depthwise separable networks: a filter per channel, and 1x1 convolutions between the channels."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING

from prune_search.recipe.axes import MODELS
from prune_search.recipe.fields import Number
from prune_search.recipe.registry import Option
from prune_search.tasks.models.shapes import picture

if TYPE_CHECKING:
    import torch
    from torch import nn
else:
    from prune_search.lazy import torch

# Filters and stride of each block, at width 1.
BLOCKS = (
    *((64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2)),
    *((512, 1), (512, 1), (512, 1), (512, 1), (512, 1), (1024, 2), (1024, 1)),
)


@MODELS.register(
    "mobilenet",
    summary="MobileNet: thirteen depthwise separable blocks; the first convolution keeps the size of small images",
    source="Howard et al. 2017, MobileNets, arXiv 1704.04861, table 1",
    options={"width": Option(Number(0.05, 2.0), 0.25, "multiplier of all widths (the paper's α); at least 8 filters")},
)
def mobilenet(shape: tuple[int, ...], classes: int, width: float) -> nn.Module:
    """MobileNet for pictures of any size and any number of channels.

    Args:
        shape: (channels, height, width) of one example; 3x224x224 in the paper, whose first convolution halves them.
        classes: number of outputs.
        width: multiplier of the number of filters.

    Raises:
        UserError: the examples are no pictures.
    """
    inputs, _, _ = picture("mobilenet", shape)
    layers: OrderedDict[str, nn.Module] = OrderedDict()

    def convolution(name: str, filters: int, stride: int = 1, kernel: int = 3, groups: int = 1) -> int:
        padding = kernel // 2
        layers[f"conv{name}"] = torch.nn.Conv2d(
            inputs, filters, kernel, stride=stride, padding=padding, groups=groups, bias=False
        )
        layers[f"bn{name}"] = torch.nn.BatchNorm2d(filters)
        layers[f"relu{name}"] = torch.nn.ReLU()
        return filters

    def filters(count: int) -> int:
        return max(8, round(width * count))

    inputs = convolution("0", filters(32))
    for place, (count, stride) in enumerate(BLOCKS, start=1):
        inputs = convolution(f"{place}_depthwise", inputs, stride, groups=inputs)
        inputs = convolution(f"{place}_pointwise", filters(count), kernel=1)
    layers["mean"] = torch.nn.AdaptiveAvgPool2d(1)
    layers["flatten"] = torch.nn.Flatten()
    layers["fc"] = torch.nn.Linear(inputs, classes)
    return torch.nn.Sequential(layers)
