"""Masks of networks of which layers are gone, and of those that grew."""

from __future__ import annotations

import torch
from torch import nn

from prune_search.pruning.mask.fused_masks import fitted, with_fused
from prune_search.pruning.mask.mask_set import MaskSet, keep_all
from prune_search.tasks.fusion import RECORD, Fused, restructured
from prune_search.tasks.layers import prunable_weights


def perceptron() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 3))


def fused(model: nn.Module) -> dict[str, torch.Tensor]:
    """Layer 4 stands for layer 2."""
    options, gone = {"in_features": 5, "out_features": 3, "bias": True}, {"2.weight": (4, 5), "2.bias": (4,)}
    record = Fused("Linear", options, ("2", "3"), gone)
    tensors = {f"4.{RECORD}": record.encoded(), "4.weight": torch.ones(3, 5)}
    restructured(model, tensors)
    return tensors


def test_a_mask_of_a_network_of_which_nothing_is_fused_stays() -> None:
    model = perceptron()
    masks = keep_all(prunable_weights(model))
    assert fitted(masks, model) is masks
    assert with_fused(masks, {}, "") is masks


def test_what_is_gone_keeps_nothing_and_what_grew_keeps_all() -> None:
    model = perceptron()
    masks = keep_all(prunable_weights(model))
    masks = MaskSet({**masks, "2.weight": torch.zeros(4, 5, dtype=torch.bool)}, {"2.weight": (1, 0)}, (1, 0.5))
    tensors = fused(model)
    found = fitted(masks, model)
    assert {name: (tuple(mask.shape), int(mask.sum())) for name, mask in found.items()} == {
        "0.weight": ((5, 6), 30),
        "2.weight": ((4, 5), 0),
        "4.weight": ((3, 5), 15),
    }
    assert {name: int(mask.sum()) for name, mask in found.held.items()} == {"2.bias": 0}
    assert found.fused == {"2.weight": "4", "2.bias": "4"}
    assert list(found.present) == ["0.weight", "4.weight"]
    assert with_fused(MaskSet(found.masks, held=found.held), tensors, "").fused == found.fused

    found.apply(model)
    whole = found.of_network(model)
    receipt = whole.receipt()
    assert [layer.fused_into for layer in receipt.layers] == ["", "4", ""]
    assert receipt.collapsed == 0
    assert receipt.reached == 1 - 45 / 65
    # 20 weights and 4 biases are gone of 30 + 5, 20 + 4 and 15 + 3.
    assert receipt.sparsity_of_all_parameters == 24 / 77


def test_in_the_next_round_what_was_gone_before_is_in_its_place_again() -> None:
    model = perceptron()
    order = list(prunable_weights(model))
    fused(model)
    found = fitted(keep_all(prunable_weights(model)), model, order)
    assert list(found) == order
    assert found.kept == {"0.weight": 30, "2.weight": 0, "4.weight": 15}
