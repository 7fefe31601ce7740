"""Plain convolutional networks: one layer after another."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING

from prune_search.recipe.axes import MODELS
from prune_search.recipe.fields import Integer, ListOf, Number
from prune_search.recipe.registry import Option
from prune_search.tasks.models.shapes import picture

if TYPE_CHECKING:
    import torch
    from torch import nn
else:
    from prune_search.lazy import torch


@MODELS.register(
    "small-conv",
    summary="two convolutions with batch normalisation and a linear layer; images of at least 4x4",
    source="this project, sized for digits",
    options={"channels": Option(ListOf(Integer(1, 4096), 2, 2), [16, 32], "filters of the two convolutions")},
)
def small_conv(shape: tuple[int, ...], classes: int, channels: list[int]) -> nn.Module:
    """Convolution 3x3, batch normalisation, ReLU and halving, twice, then a linear layer.

    Args:
        shape: (channels, height, width) of one example.
        classes: number of outputs.
        channels: filters of the two convolutions.

    Raises:
        UserError: the examples are no pictures, or under 4x4.
    """
    inputs, height, width = picture("small-conv", shape, least=4)
    first, second = channels
    return torch.nn.Sequential(
        OrderedDict(
            conv1=torch.nn.Conv2d(inputs, first, 3, padding=1, bias=False),
            bn1=torch.nn.BatchNorm2d(first),
            relu1=torch.nn.ReLU(),
            pool1=torch.nn.MaxPool2d(2),
            conv2=torch.nn.Conv2d(first, second, 3, padding=1, bias=False),
            bn2=torch.nn.BatchNorm2d(second),
            relu2=torch.nn.ReLU(),
            pool2=torch.nn.MaxPool2d(2),
            flatten=torch.nn.Flatten(),
            fc=torch.nn.Linear(second * (height // 4) * (width // 4), classes),
        )
    )


@MODELS.register(
    "lenet-5",
    summary="two 5x5 convolutions and three linear layers; 61,706 parameters on grey images up to 32x32",
    source=(
        "LeCun, Bottou, Bengio, Haffner 1998, section II.B; with ReLU, max pooling and a linear output, as is "
        "common today"
    ),
)
def lenet_5(shape: tuple[int, ...], classes: int) -> nn.Module:
    """LeNet-5 (6, 16, 120, 84 units) with full connections between its convolutions.

    As in the paper, where 28x28 digits lie in the middle of a 32x32 field, smaller pictures are padded with zeros to
    32x32, so 8x8 pictures work and the layers are the same. Larger pictures widen the first linear layer.

    Args:
        shape: (channels, height, width) of one example.
        classes: number of outputs.

    Raises:
        UserError: the examples are no pictures.
    """
    inputs, height, width = picture("lenet-5", shape)
    across, down = max(0, 32 - width), max(0, 32 - height)
    sides = [((side + gap - 4) // 2 - 4) // 2 for side, gap in ((height, down), (width, across))]
    return torch.nn.Sequential(
        OrderedDict(
            field=torch.nn.ZeroPad2d((across // 2, across - across // 2, down // 2, down - down // 2)),
            conv1=torch.nn.Conv2d(inputs, 6, 5),
            relu1=torch.nn.ReLU(),
            pool1=torch.nn.MaxPool2d(2),
            conv2=torch.nn.Conv2d(6, 16, 5),
            relu2=torch.nn.ReLU(),
            pool2=torch.nn.MaxPool2d(2),
            flatten=torch.nn.Flatten(),
            fc1=torch.nn.Linear(16 * sides[0] * sides[1], 120),
            relu3=torch.nn.ReLU(),
            fc2=torch.nn.Linear(120, 84),
            relu4=torch.nn.ReLU(),
            fc3=torch.nn.Linear(84, classes),
        )
    )


@MODELS.register(
    "conv-4",
    summary="four 3x3 convolutions and three linear layers; images of at least 4x4",
    source="Frankle, Carbin 2019, arXiv 1803.03635, figure 2",
)
def conv_4(shape: tuple[int, ...], classes: int) -> nn.Module:
    """Conv-4: 64, 64, halving, 128, 128, halving, then 256, 256 and the output.

    Args:
        shape: (channels, height, width) of one example; 3x32x32 in the paper.
        classes: number of outputs.

    Raises:
        UserError: the examples are no pictures, or under 4x4.
    """
    inputs, height, width = picture("conv-4", shape, least=4)
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    for place, filters in enumerate((64, 64, 128, 128), start=1):
        layers[f"conv{place}"] = torch.nn.Conv2d(inputs, filters, 3, padding=1)
        layers[f"relu{place}"] = torch.nn.ReLU()
        if place % 2 == 0:
            layers[f"pool{place // 2}"] = torch.nn.MaxPool2d(2)
        inputs = filters
    layers["flatten"] = torch.nn.Flatten()
    layers["fc1"] = torch.nn.Linear(128 * (height // 4) * (width // 4), 256)
    layers["relu5"] = torch.nn.ReLU()
    layers["fc2"] = torch.nn.Linear(256, 256)
    layers["relu6"] = torch.nn.ReLU()
    layers["fc3"] = torch.nn.Linear(256, classes)
    return torch.nn.Sequential(layers)


@MODELS.register(
    "narrow-conv",
    summary="3x3 convolutions with batch normalisation after ReLU, halving after every second one, and a linear layer",
    source="Ghods, Lan, Goldstein, Studer 2020, arXiv 2001.10509, as released for Fashion-MNIST",
    options={
        "channels": Option(ListOf(Integer(1, 4096), 1, 10), [2, 4, 8, 16], "filters of each convolution"),
        "dropout": Option(Number(0.0, 1.0, below=True), 0.2, "share that is dropped after each halving"),
    },
)
def narrow_conv(shape: tuple[int, ...], classes: int, channels: list[int], dropout: float) -> nn.Module:
    """Convolution, ReLU, batch normalisation for each of `channels`; halving and dropout after every second one.

    As released, but for one share of dropout at all depths, where the release drops 0.2 first and 0.3 then.

    Args:
        shape: (channels, height, width) of one example; 1x28x28 in the paper. Sides of 1 are halved no further.
        classes: number of outputs.
        channels: filters of each convolution.
        dropout: from 0 to below 1.

    Raises:
        UserError: the examples are no pictures.
    """
    inputs, height, width = picture("narrow-conv", shape)
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    for place, filters in enumerate(channels, start=1):
        layers[f"conv{place}"] = torch.nn.Conv2d(inputs, filters, 3, padding=1)
        layers[f"relu{place}"] = torch.nn.ReLU()
        layers[f"bn{place}"] = torch.nn.BatchNorm2d(filters)
        inputs = filters
        if place % 2 == 0:
            halving = (min(2, height), min(2, width))
            layers[f"pool{place}"] = torch.nn.MaxPool2d(halving)
            layers[f"dropout{place}"] = torch.nn.Dropout(dropout)
            height, width = height // halving[0], width // halving[1]
    layers["flatten"] = torch.nn.Flatten()
    layers["fc"] = torch.nn.Linear(inputs * height * width, classes)
    return torch.nn.Sequential(layers)


# Filters per convolution; a maximum over 2x2 after each group.
VGG_16 = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))


@MODELS.register(
    "vgg-16-bn",
    summary="thirteen 3x3 convolutions with batch normalisation and two linear layers, as used on CIFAR",
    source="Simonyan, Zisserman 2015, arXiv 1409.1556; for CIFAR as in Li et al. 2017, arXiv 1608.08710, table 2",
)
def vgg_16_bn(shape: tuple[int, ...], classes: int) -> nn.Module:
    """VGG-16 with batch normalisation and the linear layers 512 → 512 → classes.

    32x32 pictures are halved five times, to 1x1. A side that has reached 1 is halved no further, so smaller pictures
    work; what is left of larger ones is averaged. The convolutions have no bias: the normalisation after them has one.

    Args:
        shape: (channels, height, width) of one example; 3x32x32 in the paper.
        classes: number of outputs.

    Raises:
        UserError: the examples are no pictures.
    """
    inputs, height, width = picture("vgg-16-bn", shape)
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    for group, widths in enumerate(VGG_16, start=1):
        for place, filters in enumerate(widths, start=1):
            layers[f"conv{group}_{place}"] = torch.nn.Conv2d(inputs, filters, 3, padding=1, bias=False)
            layers[f"bn{group}_{place}"] = torch.nn.BatchNorm2d(filters)
            layers[f"relu{group}_{place}"] = torch.nn.ReLU()
            inputs = filters
        halving = (min(2, height), min(2, width))
        layers[f"pool{group}"] = torch.nn.MaxPool2d(halving)
        height, width = height // halving[0], width // halving[1]
    layers["mean"] = torch.nn.AdaptiveAvgPool2d(1)
    layers["flatten"] = torch.nn.Flatten()
    layers["fc1"] = torch.nn.Linear(512, 512)
    layers["bn6"] = torch.nn.BatchNorm1d(512)
    layers["relu6"] = torch.nn.ReLU()
    layers["fc2"] = torch.nn.Linear(512, classes)
    return torch.nn.Sequential(layers)
