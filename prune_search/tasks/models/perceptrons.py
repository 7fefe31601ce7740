"""Fully connected networks."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING

from prune_search.recipe.axes import MODELS
from prune_search.recipe.fields import Integer, ListOf
from prune_search.recipe.registry import Option
from prune_search.tasks.models.shapes import flat

if TYPE_CHECKING:
    import torch
    from torch import nn
else:
    from prune_search.lazy import torch


def _perceptron(widths: list[int]) -> nn.Module:
    """Linear layers fc1, fc2 … between `widths`, with ReLU between them."""
    layers: OrderedDict[str, nn.Module] = OrderedDict(flatten=torch.nn.Flatten())
    last = len(widths) - 1
    for place in range(1, len(widths)):
        layers[f"fc{place}"] = torch.nn.Linear(widths[place - 1], widths[place])
        if place < last:
            layers[f"relu{place}"] = torch.nn.ReLU()
    return torch.nn.Sequential(layers)


@MODELS.register(
    "mlp",
    summary="fully connected with ReLU; accepts examples of any shape",
    source="this project, sized for digits",
    options={"hidden": Option(ListOf(Integer(1, 65_536), 1, 10), [100, 50], "units of each hidden layer")},
)
def mlp(shape: tuple[int, ...], classes: int, hidden: list[int]) -> nn.Module:
    """A multilayer perceptron with the hidden layers `hidden`.

    Args:
        shape: of one example.
        classes: number of outputs.
        hidden: units of each hidden layer.
    """
    return _perceptron([flat(shape), *hidden, classes])


@MODELS.register(
    "lenet-300-100",
    summary="fully connected, 300 and 100 hidden units; 266,610 parameters on 28x28",
    source="LeCun, Bottou, Bengio, Haffner 1998, section III; with ReLU as in Frankle, Carbin 2019, arXiv 1803.03635",
)
def lenet_300_100(shape: tuple[int, ...], classes: int) -> nn.Module:
    """LeNet-300-100.

    Args:
        shape: of one example; 28x28 in the papers.
        classes: number of outputs.
    """
    return _perceptron([flat(shape), 300, 100, classes])


@MODELS.register(
    "two-layer",
    summary="a layer of neurons for each class, with ReLU to a power; a class's score is the sum of its neurons",
    source="Yang, Liang, Guo, Wu & Wang 2023, 2301.00335; its sizes are this project's",
    options={
        "width": Option(Integer(1, 65_536), 20, "m, neurons of each class"),
        "power": Option(Integer(1, 10), 3, "q of the activation max(z, 0)^q / q"),
    },
)
def two_layer(shape: tuple[int, ...], classes: int, width: int, power: int) -> nn.Module:
    """F_k(x) = Σ_r σ(⟨w_{k,r}, x⟩) with σ(z) = max(z, 0)^q / q; rows k·m … k·m + m - 1 of the weight are class k's.

    The first layer is the only one: without biases, and prunable. The readout is a sum, which has no weights. So the
    layer makes the outputs, and granularities that leave the output layer alone have nothing to prune.

    Args:
        shape: of one example.
        classes: K, the number of outputs.
        width: m.
        power: q.
    """
    from prune_search.tasks.models.networks.two_layer import PolynomialReLU, SumPerClass

    layers: OrderedDict[str, nn.Module] = OrderedDict(flatten=torch.nn.Flatten())
    layers["fc1"] = torch.nn.Linear(flat(shape), classes * width, bias=False)
    layers["activation"] = PolynomialReLU(power)
    layers["readout"] = SumPerClass(classes)
    return torch.nn.Sequential(layers)
