"""What is said of layers that are to be removed, before anything is trained."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch

from prune_search.recipe.problems import UserError
from prune_search.trial.layer_checks import check_layers
from prune_search.trial.setup import TrialSetup

SetupOf = Callable[[Mapping[str, Any]], TrialSetup]


def recipe(rounds: int, layers: int, **more: Any) -> dict[str, Any]:
    task = {"model": {"name": "mlp", "hidden": [9, 8, 7]}}
    mask = {"sparsity": {"layers": layers}}
    return {"preset": "fuse-init", "task": task, "train": {"steps": "4it"}, "mask": mask, "rounds": rounds, **more}


@pytest.mark.parametrize(("rounds", "layers"), [(1, 1), (1, 3), (3, 1)])
def test_as_many_layers_as_there_are_besides_the_output_layer_can_go(
    rounds: int, layers: int, setup_of: SetupOf
) -> None:
    setup = setup_of(recipe(rounds, layers))
    before = {name: tensor.clone() for name, tensor in setup.model.state_dict().items()}
    check_layers(setup)
    assert all(torch.equal(tensor, before[name]) for name, tensor in setup.model.state_dict().items())


@pytest.mark.parametrize(("rounds", "layers"), [(1, 4), (2, 2), (4, 1)])
def test_more_are_refused_with_both_numbers(rounds: int, layers: int, setup_of: SetupOf) -> None:
    with pytest.raises(UserError, match=f"{layers} in each of {rounds} rounds are more layers than the 3"):
        check_layers(setup_of(recipe(rounds, layers)))


def test_a_share_is_not_looked_at(setup_of: SetupOf) -> None:
    check_layers(setup_of({**recipe(1, 1), "task": {"model": "resnet-20"}, "mask": {"sparsity": 0.5}}))


def test_a_layer_that_no_other_can_stand_for_is_named(setup_of: SetupOf) -> None:
    with pytest.raises(UserError, match="cannot be fused into the layer after it"):
        check_layers(setup_of({**recipe(1, 1), "task": {"model": "resnet-20"}}))
