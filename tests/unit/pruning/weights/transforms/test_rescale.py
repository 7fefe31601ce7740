"""Rescaling gives a deep pruned network its second moment back."""

from __future__ import annotations

import math
from decimal import Decimal
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from prune_search.pruning.mask.finder import find_mask
from prune_search.pruning.mask.mask_set import MaskSet
from prune_search.pruning.mask.rule import MaskRule, ScoringData
from prune_search.pruning.weights.context import TransformContext
from prune_search.pruning.weights.transforms.rescale import edge_of_chaos_rescale
from prune_search.recipe.axes import INITS
from prune_search.recipe.blocks import Score
from prune_search.recipe.recipe import Named
from prune_search.tasks.network import prunable_weights
from prune_search.training.edge_of_chaos import known_edge
from prune_search.training.environment import autocast
from prune_search.training.loop import Network

DEVICE = torch.device("cpu")


def deep(kind: type[nn.Module], depth: int, width: int, **init: Any) -> nn.Module:
    layers: list[nn.Module] = []
    for _ in range(depth):
        layers += [nn.Linear(width, width), kind()]
    model = nn.Sequential(*layers, nn.Linear(width, 10))
    INITS["edge-of-chaos"].make(model, 1, **{"sigma_b": 0.0, "activation": "relu", "multiplier": 1.0, **init})
    return model


def rescaled(model: nn.Module, masks: MaskSet, init: Named, **options: Any) -> None:
    network = Network(model, DEVICE, autocast(DEVICE, "fp32"), nn.functional.cross_entropy)
    whole: Any = None
    layers = tuple(prunable_weights(model))
    edge_of_chaos_rescale(TransformContext(network, masks, whole, layers, init, 1, ("t", 1), whole), **options)
    masks.apply(model)


def magnitude_mask(model: nn.Module, share: str) -> MaskSet:
    score = {
        "iterations": 1,
        "path": "exponential",
        "nested": True,
        "batches": 1,
        "loss": "cross-entropy",
        "mode": "train",
    }
    magnitude, uniform, weight = (Named(name, {}, name) for name in ("magnitude", "uniform", "weight"))
    rule = MaskRule(magnitude, uniform, weight, Score.of(score))
    return find_mask(model, rule, Decimal(share), None, ScoringData(lambda _: [], None, 1, 1))


def second_moment(model: nn.Module) -> float:
    x = torch.randn(64, 512, generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        return float(model[:-1](x).square().mean() * 2)  # type: ignore[index]


def test_rescaling_brings_the_second_moment_of_a_deep_pruned_network_back() -> None:
    """Thirty layers of 512 units, a fifth kept by magnitude."""
    model = deep(nn.ReLU, 30, 512)
    masks = magnitude_mask(model, "0.2")
    masks.apply(model)
    before = second_moment(model)
    init = Named("edge-of-chaos", {"sigma_b": 0.0, "activation": "relu"}, None)
    rescaled(model, masks, init)
    after = second_moment(model)
    assert before < 1e-4
    assert 0.3 < after < 3.0
    for name, mask in masks.items():
        weight = model.get_parameter(name)
        assert float(weight.detach().square().mean()) * weight.shape[1] == pytest.approx(2.0, rel=1e-5)
        assert bool((weight[~mask] == 0).all())


def test_rescaling_takes_the_initializer_s_edge_or_the_one_that_is_written() -> None:
    def sizes(init: Named, **options: Any) -> float:
        model = deep(nn.Tanh, 1, 40)
        masks = magnitude_mask(model, "0.5")
        masks.apply(model)
        rescaled(model, masks, init, **options)
        weight: Tensor = model.get_parameter("0.weight")
        return float(weight.detach().square().mean()) * 40

    sigma_b = math.sqrt(0.05)
    tanh = Named("edge-of-chaos", {"sigma_b": sigma_b, "activation": "tanh"}, None)
    kaiming = Named("kaiming", {}, "kaiming")
    edge = known_edge("tanh", sigma_b).sigma_w ** 2
    assert sizes(tanh) == pytest.approx(edge, rel=1e-5)
    assert sizes(kaiming) == pytest.approx(2.0, rel=1e-5)
    assert sizes(kaiming, activation="tanh", sigma_b=sigma_b) == pytest.approx(edge, rel=1e-5)
