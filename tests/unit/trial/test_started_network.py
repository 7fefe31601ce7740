"""A whole network at step 0: its weights, its digests, and what is refused of it."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from prune_search.recipe.problems import UserError
from prune_search.recipe.recipe import Recipe
from prune_search.recipe.space import read_space
from prune_search.tasks.network import network_digest
from prune_search.trial.data_and_network import Code, NetworkFactory, read_data
from prune_search.trial.started_network import StartedNetwork, start_whole

SMALL = {"preset": "snip", "task": {"data": "digits", "model": {"name": "mlp", "hidden": [8]}, "seed": 3}}


def started(**blocks: Any) -> StartedNetwork:
    recipe: Recipe = read_space({**SMALL, **blocks}, "a test").only_recipe()
    data = read_data(recipe, None, Code())
    return start_whole(recipe, NetworkFactory(recipe, Code(), None, data), data, None)


def test_a_network_is_drawn_from_the_seed_of_the_recipe() -> None:
    one, again = started(), started()
    assert one.digest == again.digest == network_digest(one.model)
    other = started(task={**SMALL["task"], "seed": 4})  # type: ignore[dict-item]
    assert other.digest != one.digest
    assert other.forward == one.forward
    assert (one.source, one.before, one.initialized) == ("", None, None)
    assert one.data.train.first(2).dtype == torch.float32


def test_what_the_recipe_says_of_layers_that_are_not_there_is_refused() -> None:
    with pytest.raises(UserError, match="nothere"):
        started(mask={"scope": {"name": "global", "exclude": ["nothere"]}})
    with pytest.raises(UserError, match=r"train\.batchnorm_l1: this network has no batch norm"):
        started(train={"batchnorm_l1": 0.1})
