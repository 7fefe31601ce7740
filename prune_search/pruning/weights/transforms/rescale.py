"""Rescaling: gives the kept weights the variance that pruning took from a layer."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from prune_search.recipe.axes import TRANSFORMS
from prune_search.recipe.fields import Number, Word
from prune_search.recipe.registry import Option
from prune_search.training.edge_of_chaos import ACTIVATIONS, known_edge

if TYPE_CHECKING:
    import torch

    from prune_search.pruning.weights.context import TransformContext
else:
    from prune_search.lazy import torch


@TRANSFORMS.register(
    "edge-of-chaos-rescale",
    summary="rescales each layer's kept weights back to the variance of the edge of chaos",
    source="Hayou, Ton, Doucet & Teh 2021, Robust Pruning at Initialization, 2002.08797, section 4.1",
    options={
        "activation": Option(
            Word(tuple(ACTIVATIONS)),
            None,
            "activation of the network; default: that of train.init if it has one, else relu",
        ),
        "sigma_b": Option(
            Number(0.0, 100.0), None, "standard deviation of biases; default: that of train.init, else 0"
        ),
    },
)
def edge_of_chaos_rescale(
    setting: TransformContext, *, activation: str | None = None, sigma_b: float | None = None
) -> None:
    """w_l becomes ρ_l w_l with ρ_l = √(σ_w² / (fan-in · mean(m w²))), the mean over all entries, removed ones too.

    So the squares of a unit's weights add up to σ_w² on average, as they do in a dense network on the edge. A layer
    with nothing left stays as it is.
    """
    from prune_search.training.initializers import fan_in

    if setting.masks is None:
        return
    told = setting.init.options
    phi = activation if activation is not None else str(told.get("activation", "relu"))
    bias = sigma_b if sigma_b is not None else float(told.get("sigma_b", 0.0))
    sigma_w = known_edge(phi, bias).sigma_w
    parameters = dict(setting.network.model.named_parameters())
    with torch.no_grad():
        for name in setting.layers:
            weight = parameters[name]
            kept = weight.double() * setting.masks[name].to(weight.device)
            size = fan_in(weight) * float(kept.square().mean())
            if size > 0:
                weight.mul_(sigma_w / math.sqrt(size))
