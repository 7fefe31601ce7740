"""The two-layer network is the sum of each class's neurons, and its only weight can be pruned."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
import torch

from prune_search.pruning.mask.finder import find_mask
from prune_search.pruning.mask.rule import MaskRule, ScoringData
from prune_search.recipe.axes import MODELS
from prune_search.recipe.blocks import Mask
from prune_search.recipe.problems import UserError
from prune_search.tasks.layers import prunable_weights
from prune_search.tasks.models.networks.two_layer import PolynomialReLU, SumPerClass


def built(classes: int = 3, width: int = 4, power: int = 3, inputs: int = 7) -> Any:
    torch.manual_seed(0)
    return MODELS["two-layer"].make((inputs,), classes, width=width, power=power)


@pytest.mark.parametrize("power", [1, 2, 3])
def test_a_score_is_the_sum_of_the_powers_of_its_own_neurons(power: int) -> None:
    model, x = built(power=power), torch.randn(5, 7)
    weight = model.fc1.weight.detach()
    for example, scores in zip(x, model(x).detach(), strict=True):
        for label in range(3):
            neurons = [float(weight[label * 4 + r] @ example) for r in range(4)]
            by_hand = sum(max(z, 0.0) ** power / power for z in neurons)
            assert float(scores[label]) == pytest.approx(by_hand, rel=1e-5, abs=1e-7)


def test_the_first_layer_is_all_that_is_trained_and_pruned() -> None:
    model = built()
    assert list(prunable_weights(model)) == ["fc1.weight"]
    assert [name for name, _ in model.named_parameters()] == ["fc1.weight"]
    assert list(model.buffers()) == []
    assert "power=3" in repr(PolynomialReLU(3))
    assert "classes=4" in repr(SumPerClass(4))


def found(granularity: str) -> int:
    written = {"at": "end", "criterion": "random", "scope": "global", "granularity": granularity, "score": {}}
    rule = MaskRule.of(Mask.of(written))
    data = ScoringData(lambda _: [], "fc1.weight", 0, 1, lambda: torch.zeros(1, 7))
    return sum(find_mask(built(), rule, Decimal("0.5"), None, data).kept.values())


def test_single_weights_are_pruned_and_outputs_are_not() -> None:
    assert found("weight") == 12 * 7 // 2
    with pytest.raises(UserError, match="no layer that can be pruned this way"):
        found("filter")
