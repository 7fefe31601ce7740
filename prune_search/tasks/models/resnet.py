"""The residual networks for CIFAR."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prune_search.recipe.axes import MODELS
from prune_search.recipe.fields import Integer, Word
from prune_search.recipe.registry import Option
from prune_search.tasks.models.shapes import picture

if TYPE_CHECKING:
    from torch import nn

SOURCE = "He, Zhang, Ren, Sun 2016, arXiv 1512.03385, section 4.2; residual_scale: Hayou et al. 2021, arXiv 2002.08797"
OPTIONS = {
    "width": Option(Integer(1, 1024), 16, "filters of the first stage; the next two have twice and four times as many"),
    "shortcut": Option(
        Word(("zero-padding", "projection")),
        "zero-padding",
        (
            "shortcut where the number of channels grows: the paper's option A (no parameters) or option B (a 1x1 "
            "convolution)"
        ),
    ),
    "residual_scale": Option(
        Word(("one", "inverse-sqrt-depth")), "one", "factor of each residual branch: 1, or 1/√(number of blocks)"
    ),
}


def _resnet(
    depth: int, shape: tuple[int, ...], classes: int, width: int, shortcut: str, residual_scale: str
) -> nn.Module:
    """The network of `depth` = 6n + 2 layers: three stages of n blocks of two convolutions."""
    channels, _, _ = picture(f"resnet-{depth}", shape)
    from prune_search.tasks.models.networks.resnet import ResNet

    blocks = (depth - 2) // 6
    scale = (3 * blocks) ** -0.5 if residual_scale == "inverse-sqrt-depth" else 1.0
    return ResNet(channels, classes, blocks, width, shortcut == "projection", scale)


@MODELS.register(
    "resnet-20",
    summary="residual, 20 layers, stages of 16, 32 and 64 filters; 269,722 parameters on CIFAR-10",
    source=SOURCE,
    options=OPTIONS,
)
def resnet_20(shape: tuple[int, ...], classes: int, width: int, shortcut: str, residual_scale: str) -> nn.Module:
    """ResNet-20 for pictures of any size and any number of channels.

    Args:
        shape: (channels, height, width) of one example; 3x32x32 in the paper.
        classes: number of outputs.
        width: filters of the first stage.
        shortcut: "zero-padding" or "projection".
        residual_scale: "one" or "inverse-sqrt-depth".

    Raises:
        UserError: the examples are no pictures.
    """
    return _resnet(20, shape, classes, width, shortcut, residual_scale)


@MODELS.register(
    "resnet-56",
    summary="residual, 56 layers, stages of 16, 32 and 64 filters; 853,018 parameters on CIFAR-10",
    source=SOURCE,
    options=OPTIONS,
)
def resnet_56(shape: tuple[int, ...], classes: int, width: int, shortcut: str, residual_scale: str) -> nn.Module:
    """ResNet-56; see `resnet_20`."""
    return _resnet(56, shape, classes, width, shortcut, residual_scale)
