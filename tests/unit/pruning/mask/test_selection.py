"""Layers decided one after the other: each is scored on the network in which those before it are pruned."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import torch
from torch import nn

from prune_search.pruning.mask.finder import find_mask
from prune_search.pruning.mask.rule import MaskRule, ScoringData
from prune_search.recipe.blocks import Score
from prune_search.recipe.recipe import Named
from prune_search.tasks.network import prunable_weights

SCORE = Score.of(
    {"iterations": 1, "path": "exponential", "nested": True, "batches": 1, "loss": "cross-entropy", "mode": "train"}
)


def masks(order: str, criterion: str, model: nn.Module, batches: Any) -> dict[str, torch.Tensor]:
    scope = Named("uniform", {"order": order}, {"name": "uniform", "order": order})
    rule = MaskRule(Named(criterion, {}, criterion), scope, Named("weight", {}, "weight"), SCORE)
    return dict(find_mask(model, rule, Decimal("0.3"), None, ScoringData(lambda _: batches, None, 1, 1)))


def test_each_layer_is_scored_with_those_before_it_pruned() -> None:
    """By hand: |w · dL/dw| of one layer at a time, its mask applied before the next one is looked at."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 7), nn.Tanh(), nn.Linear(7, 3))
    x, y = torch.randn(20, 6), torch.arange(20) % 3
    start = {name: value.clone() for name, value in model.state_dict().items()}
    found = masks("sequential", "snip", model, [(x, y)])
    together = masks("together", "snip", model, [(x, y)])
    assert all(torch.equal(value, start[name]) for name, value in model.state_dict().items())
    for name, weight in prunable_weights(model).items():
        (slope,) = torch.autograd.grad(nn.functional.cross_entropy(model(x), y), weight)
        score = (start[name] * slope).abs().flatten()
        count = int(0.3 * score.numel() + 0.5)
        wanted = set(score.topk(count).indices.tolist())
        assert set(found[name].flatten().nonzero().flatten().tolist()) == wanted
        with torch.no_grad():
            weight.mul_(found[name])
    assert torch.equal(found["0.weight"], together["0.weight"])
    assert not torch.equal(found["4.weight"], together["4.weight"])


def test_for_a_criterion_of_the_weights_alone_the_order_is_nothing() -> None:
    torch.manual_seed(1)
    model = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3))
    one, other = (masks(order, "magnitude", model, []) for order in ("together", "sequential"))
    assert all(torch.equal(one[name], other[name]) for name in one)
