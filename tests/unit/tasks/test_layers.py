"""Which parameters can be pruned, what they are called, and which networks are refused."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from prune_search.recipe.problems import UserError
from prune_search.tasks.layers import check_network, kind_of, prunable_weights


def test_layers_of_every_kind_give_their_weights_once_in_the_order_of_the_modules() -> None:
    model = nn.ModuleDict(
        {
            "conv": nn.Conv2d(1, 2, 3),
            "norm": nn.BatchNorm2d(2),
            "lstm": nn.LSTM(4, 3, num_layers=2),
            "attention": nn.MultiheadAttention(4, 2),
            "words": nn.Embedding(5, 4),
            "head": nn.Linear(4, 5),
        }
    )
    model["again"] = model["head"]
    names = list(prunable_weights(model))
    assert names == [
        "conv.weight",
        *(f"lstm.weight_{part}_l{layer}" for layer in (0, 1) for part in ("ih", "hh")),
        "attention.in_proj_weight",
        "attention.out_proj.weight",
        "head.weight",
    ]
    kinds = {name: kind_of(module) for name, module in model.items()}
    assert {name for name, kind in kinds.items() if kind is None} == {"norm", "words"}
    # A row of a recurrent weight makes no output of its own.
    assert [kind.output_rows for kind in (kinds["conv"], kinds["lstm"]) if kind is not None] == [True, False]


def test_networks_that_a_mask_cannot_hold_are_refused_by_name() -> None:
    for model, said in (
        (nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Linear(2, 2))), r"0\.weight"),
        (nn.Sequential(nn.LazyLinear(3)), "0"),
        (nn.Sequential(nn.Embedding(3, 2)), "no "),
    ):
        with pytest.raises(UserError, match=said):
            check_network(model)
    check_network(nn.Sequential(nn.Linear(2, 2)))
    assert torch.is_grad_enabled()
