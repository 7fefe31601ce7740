"""The L1 penalty on batch norm scales: by hand, in both trainings of a trial, and where there is no scale."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from prune_search.recipe.problems import UserError
from prune_search.recipe.space import read_space
from prune_search.training.batchnorm_penalty import batchnorm_penalty, batchnorm_scales
from prune_search.training.state_store import StateStore, Steps
from prune_search.trial.rounds import rounds_of
from prune_search.trial.setup import TrialSetup, prepare


def test_only_trained_scales_are_drawn_to_zero_by_the_subgradient() -> None:
    model = nn.Sequential(nn.Conv2d(1, 3, 1), nn.BatchNorm2d(3), nn.BatchNorm2d(3, affine=False), nn.BatchNorm2d(3))
    frozen, trained = model[3], model[1]
    assert isinstance(frozen, nn.BatchNorm2d)
    assert isinstance(trained, nn.BatchNorm2d)
    frozen.weight.requires_grad_(False)
    assert batchnorm_scales(model) == [trained.weight]
    with torch.no_grad():
        trained.weight.copy_(torch.tensor([2.0, -0.5, 0.0]))
    hook = batchnorm_penalty(model, 0.1)
    assert hook.after_backward is not None
    # Without a gradient there is nothing to add to.
    hook.after_backward(0)
    assert trained.weight.grad is None
    trained.weight.grad = torch.ones(3)
    hook.after_backward(1)
    torch.testing.assert_close(trained.weight.grad, torch.tensor([1.1, 0.9, 1.0]))
    assert model[0].weight.grad is None


def setup(model: Any, **train: Any) -> TrialSetup:
    raw = {
        "task": {"model": model},
        "train": {"steps": "4it", **train},
        "mask": {"at": "end", "criterion": "magnitude", "sparsity": 0.5},
        "weights": {"at": "end"},
        "retrain": {"steps": "3it", "clock": {"hold": 0.05}},
    }
    return prepare(read_space(raw, "a test").only_recipe(), torch.device("cpu"))


def test_it_acts_in_trajectory_1_and_in_the_retraining() -> None:
    small = {"name": "small-conv", "channels": [4, 6]}
    plain, penalized = setup(small), setup(small, batchnorm_l1=0.5)
    assert plain.root() != penalized.root()

    def scales(tensors: Mapping[str, Tensor]) -> float:
        return sum(float(value.abs().sum()) for name, value in tensors.items() if ".weight" in name and "bn" in name)

    sizes = []
    for one in (plain, penalized):
        first, (item,) = rounds_of(one, StateStore(None, Steps()))
        sizes.append((scales(first.end().tensors), scales(item.result)))
    (w, last), (less, least) = sizes
    assert less < w - 0.1
    assert last - least > (w - less) + 0.1


def test_a_network_without_a_batch_norm_is_refused() -> None:
    with pytest.raises(UserError, match=r"train\.batchnorm_l1: this network has no batch norm with a scale"):
        setup({"name": "mlp", "hidden": [8]}, batchnorm_l1=0.1)
