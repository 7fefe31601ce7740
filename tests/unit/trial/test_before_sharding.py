"""What is known of a network once it is sharded."""

from __future__ import annotations

import pytest
import torch

from prune_search.recipe.problems import UserError
from prune_search.recipe.space import read_space
from prune_search.trial.before_sharding import BeforeSharding
from prune_search.trial.data_and_network import Code, NetworkFactory, read_data
from prune_search.trial.setup import prepare
from prune_search.trial.started_network import fitted_to

RECIPE = {
    "preset": "snip",
    "task": {"model": {"name": "mlp", "hidden": [16, 8]}, "data": "digits"},
    "mask": {"sparsity": 0.5, "scope": {"name": "global", "exclude": ["last", "first"]}},
}


def test_ends_have_names_and_layers_have_costs() -> None:
    recipe = read_space(RECIPE, "a test").only_recipe()
    data = read_data(recipe, None, Code())
    model, _ = NetworkFactory(recipe, Code(), None, data).build()
    setup = prepare(recipe, torch.device("cpu"))
    found = BeforeSharding.of(model, recipe, fitted_to(model, data))
    assert found.output_layer == setup.output_layer
    assert dict(found.flops) == setup.flops
    assert found.scope.name == "global"
    weights = list(setup.weights)
    assert found.scope.options["exclude"] == sorted([weights[0], weights[-1]])


def test_a_recipe_that_needs_the_whole_network_is_refused() -> None:
    recipe = read_space({**RECIPE, "preset": "grasp"}, "a test").only_recipe()
    with pytest.raises(UserError, match=r"mask\.criterion: grasp does not go with search\.sharded: true"):
        prepare(recipe, torch.device("cpu"), sharded=True)
