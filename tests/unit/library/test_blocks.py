"""A network of one's own, pruned in place block by block."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from block_network import BATCHES, network

import prune_search
from prune_search.recipe.problems import UserError

pytestmark = pytest.mark.filterwarnings("ignore:.*layers of this kind are not pruned")


def test_only_named_layers_are_pruned_and_everything_else_stays() -> None:
    model, before = network(), network()
    names = [f"blocks.{place}.up" for place in range(3)]
    mask = prune_search.prune_blocks(model, "sparsegpt", 0.75, batches=BATCHES, parameters=names)
    assert list(mask.units) == [f"{name}.weight" for name in names]
    for name, weight in model.named_parameters():
        pruned = name in mask.units
        assert torch.equal(weight, before.get_parameter(name)) is not pruned, name
        assert not pruned or int((weight == 0).sum()) * 4 == 3 * weight.numel()
    assert all(parameter.requires_grad and parameter.grad is None for parameter in model.parameters())


def test_a_network_without_blocks_is_one_block() -> None:
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(8, 8), torch.nn.ReLU(), torch.nn.Linear(8, 4))
    x = torch.randn(20, 8)
    mask = prune_search.prune_blocks(model, "wanda", 0.5, batches=[(x, x)])
    assert mask.receipt().blocks == "the whole network, which has no repeated blocks"
    assert mask.sparsity() == 0.5


def test_arguments_are_checked() -> None:
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"scope": "global"}, r"scope.order"),
        ({"criterion": "wandaa"}, r"did you mean 'wanda'"),
        ({"sparsity": 2}, r"sparsity: must be a number from 0 to 1"),
    ]
    for arguments, text in wrong:
        with pytest.raises(UserError, match=text):
            prune_search.prune_blocks(network(), batches=BATCHES, **{"sparsity": 0.5, **arguments})
