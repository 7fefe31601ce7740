"""The code on a model card builds the network that was trained."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import pytest
import torch
from torch import nn

from prune_search.exports.model_code import loading_code, plain_torch
from prune_search.recipe.axes import MODELS
from prune_search.recipe.recipe import Named, Recipe
from prune_search.recipe.space import read_space


def recipe(**task: Any) -> Recipe:
    return read_space({"preset": "snip", "task": {"data": "digits", **task}}, "a test").only_recipe()


def built(code: str) -> nn.Module:
    """The network that the code makes, before it loads the files."""
    names: dict[str, Any] = {}
    exec(code.partition("model.load_state_dict")[0], names)
    model: nn.Module = names["model"]
    return model


def test_the_expression_of_a_sequence_builds_it_again() -> None:
    model = nn.Sequential(OrderedDict(first=nn.Conv2d(1, 2, 3, padding=1), act=nn.ReLU(), norm=nn.BatchNorm2d(2)))
    expression = plain_torch(model)
    assert expression is not None
    again = eval(expression, {"nn": nn, "OrderedDict": OrderedDict})
    assert repr(again) == repr(model)
    assert list(again.state_dict()) == list(model.state_dict())


@pytest.mark.parametrize(
    "model", [nn.Linear(2, 2), nn.Sequential(nn.Sequential(nn.Linear(2, 2))), nn.Sequential(nn.ELU())]
)
def test_what_has_layers_of_its_own_has_no_such_expression(model: nn.Module) -> None:
    assert plain_torch(model) is None


@pytest.mark.parametrize("model", ["mlp", {"name": "mlp", "hidden": [5]}, {"name": "resnet-20", "width": 4}])
def test_the_code_builds_the_recipes_network(model: Any) -> None:
    made = recipe(model=model)
    named, facts = made.task.model, made.task.source
    assert isinstance(named, Named)
    expected = MODELS[named.name].make(tuple(facts.shape or ()), facts.classes, **named.options)
    shapes = {name: tensor.shape for name, tensor in built(loading_code(made)).state_dict().items()}
    assert shapes == {name: tensor.shape for name, tensor in expected.state_dict().items()}


def test_a_users_own_model_is_imported_by_its_name() -> None:
    code = loading_code(recipe(model="my.nets:Holder.make"))
    assert "from my.nets import Holder" in code
    assert "model = Holder.make(...)" in code


def test_writing_the_code_moves_nobodys_random_numbers() -> None:
    state = torch.get_rng_state()
    loading_code(recipe(model="mlp"))
    assert torch.equal(torch.get_rng_state(), state)
