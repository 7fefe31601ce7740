"""What a recipe may say of constrained reinforcement learning, and that the library refuses it in plain words."""

from __future__ import annotations

from typing import Any

import pytest
from torch import nn

from prune_search import find_mask
from prune_search.recipe.problems import UserError
from prune_search.recipe.space import read_space

TAIL = {"weights": {"at": "end"}, "retrain": "none"}


def recipe(scope: Any, **mask: Any) -> Any:
    raw = {"mask": {"at": "end", "criterion": "magnitude", "scope": scope, **mask}, "train": {"steps": "1ep"}, **TAIL}
    return read_space(raw, "a test").only_recipe()


def test_its_sparsity_may_be_left_out_and_its_default_budget_is_the_papers() -> None:
    found = recipe("ppo-lagrangian").mask
    assert found.sparsity.by_scope
    assert found.scope.options["budget"] == {"parameters": 0.1}


@pytest.mark.parametrize(
    ("scope", "mask", "told"),
    [
        ({"budget": {"latency": 0.1}}, {}, "needs costs per layer"),
        ({"budget": 0.1}, {}, "mask.scope.budget"),
        ({"most": 0}, {}, "mask.scope.most"),
        ({"mean": 1.0}, {}, "mask.scope.mean"),
        ({"reward_on": "test"}, {}, "mask.scope.reward_on"),
        ({"episodes": 0}, {}, "mask.scope.episodes"),
        ({}, {"sparsity": 0.9}, "is determined by scope ppo-lagrangian"),
    ],
)
def test_what_does_not_fit_is_refused_with_its_key(scope: Any, mask: Any, told: str) -> None:
    with pytest.raises(UserError, match=told):
        recipe({"name": "ppo-lagrangian", **scope}, **mask)


def test_the_library_has_no_trial_to_run_episodes_in() -> None:
    with pytest.raises(UserError, match="tries networks in episodes, which need a trial"):
        find_mask(nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 2)), scope="ppo-lagrangian")
