"""Untrained networks that stand for a prior: they are fitted to one picture, or to a few measurements."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prune_search.recipe.axes import MODELS
from prune_search.recipe.facts import Model
from prune_search.recipe.fields import Flag, Integer, Word
from prune_search.recipe.problems import Problem, UserError
from prune_search.recipe.registry import Option
from prune_search.tasks.models.shapes import flat, picture

if TYPE_CHECKING:
    from torch import nn


@MODELS.register(
    "skip-net",
    summary="hourglass with skip connections whose outputs are pictures, for deep image prior",
    source="Ulyanov, Vedaldi, Lempitsky 2018, Deep Image Prior, 1711.10925 (5 scales of 128 channels, 4 that skip)",
    options={
        "channels": Option(Integer(1, 4096), 32, "channels of each scale; 128 in the paper"),
        "scales": Option(Integer(1, 8), 2, "how often the picture is halved; 5 in the paper"),
        "skip": Option(Integer(0, 4096), 4, "channels that skip each scale; 0: none"),
        "upsampling": Option(Word(("bilinear", "nearest")), "bilinear", "how pictures are doubled"),
        "sigmoid": Option(Flag(), True, "whether outputs are brought to 0…1; synflow needs outputs without"),
    },
    facts=Model(pictures=True),
)
def skip_net(
    shape: tuple[int, ...], classes: int, *, channels: int, scales: int, skip: int, upsampling: str, sigmoid: bool
) -> nn.Module:
    """From an input of any channels to a picture of the same height and width.

    Args:
        shape: (channels, height, width) of one example; both sides multiples of 2^scales, and at least twice that.
        classes: channels of the picture.
        channels: of each scale.
        scales: how often the picture is halved.
        skip: channels that skip each scale.
        upsampling: ``bilinear`` or ``nearest``.
        sigmoid: whether outputs are brought to 0 … 1.

    Raises:
        UserError: the examples are no pictures, or of sides that cannot be halved so often.
    """
    from prune_search.tasks.models.networks.skip_net import SkipNet

    inputs, height, width = picture("skip-net", shape, least=2 ** (scales + 1))
    if height % 2**scales or width % 2**scales:
        text = f"skip-net halves pictures {scales} times, so their sides must be multiples of {2**scales}"
        raise UserError([Problem("task.model.scales", f"{text}, but they are {height}x{width}")])
    return SkipNet(inputs, max(1, classes), channels, scales, skip, upsampling, sigmoid)


@MODELS.register(
    "inverse-prior",
    summary="g(u) = V φ(W u) / √k, the wide two-layer network of the theory of inverse priors; W is normal, V signs",
    source="Buskulic, Fadili & Quéau 2023, Convergence Guarantees of … Wide Deep Inverse Prior, 2303.11265",
    options={
        "width": Option(Integer(1, 1_000_000), 256, "units k of the hidden layer"),
        "activation": Option(Word(("sigmoid", "tanh", "softplus")), "tanh", "φ, a smooth function"),
        "trained": Option(Word(("both", "hidden")), "both", "layers that are trained: both, or W only"),
    },
)
def inverse_prior(shape: tuple[int, ...], classes: int, *, width: int, activation: str, trained: str) -> nn.Module:
    """Without biases; W is drawn from N(0, 1) and V from ±1. ``train.init: as-built`` keeps them so.

    Args:
        shape: of the input u, whose d figures are taken as one row.
        classes: outputs n.
        width: k.
        activation: φ.
        trained: ``both``, or ``hidden``: V is fixed, and no weight of it is pruned.
    """
    from prune_search.tasks.models.networks.inverse_prior import InversePrior

    return InversePrior(flat(shape), max(1, classes), width, activation, trained == "both")
