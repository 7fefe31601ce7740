"""Which parameters can be pruned, what they are called, and which networks are refused."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from prune_search.recipe.problems import UserError
from prune_search.tasks.layers import check_network, kind_of, prunable_weights, undeclared


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


class Product(nn.Module):
    """A weight, a table and a scale of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.matrix = nn.Parameter(torch.ones(3, 4))
        self.table = nn.Parameter(torch.ones(1, 5, 4))
        self.scale = nn.Parameter(torch.ones(1, 4))
        self.norm = nn.LayerNorm((2, 4))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x @ self.matrix * self.scale


class Declared(Product):
    """The same, with its weight named."""

    prunable_parameters = ("matrix",)


def test_a_parameter_of_a_module_s_own_is_a_weight_where_the_module_says_so() -> None:
    assert list(prunable_weights(nn.Sequential(Declared()))) == ["0.matrix"]
    assert undeclared(nn.Sequential(Product())) == ["0.matrix", "0.table"]
    assert undeclared(nn.Sequential(Declared(), nn.ParameterList([torch.ones(2, 2)]))) == ["0.table", "1.0"]
    check_network(Declared())
    with pytest.raises(UserError, match=r"matrix, table: held by a module itself.*prunable_parameters = \('matrix',\)"):
        check_network(Product())


@pytest.mark.parametrize(
    ("said", "text"),
    [
        ("matrix", "must be a tuple of names"),
        (("matrx",), "it has no parameter matrx of its own"),
        (("norm",), "it has no parameter norm of its own"),
        (("bias",), "bias has 1 dimensions"),
    ],
)
def test_what_a_module_says_wrongly_of_its_weights_is_refused(said: object, text: str) -> None:
    model = Product()
    model.bias = nn.Parameter(torch.ones(4))
    model.prunable_parameters = said  # type: ignore[assignment]
    with pytest.raises(UserError, match=text):
        check_network(nn.Sequential(model, nn.Linear(4, 2)))


def test_a_layer_of_torch_has_the_weights_of_its_kind_only() -> None:
    model = nn.Linear(2, 2)
    model.prunable_parameters = ("weight", "bias")  # type: ignore[assignment]
    with pytest.raises(UserError, match="has weight pruned, and nothing else"):
        check_network(nn.Sequential(model))
