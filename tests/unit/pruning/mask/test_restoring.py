"""Whatever scoring changes, the network is put back."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from prune_search.pruning.mask.restoring import layers_seeded, left_as_it_was


def network() -> nn.Sequential:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3), nn.Dropout(0.5))
    model[1].eval()
    model[0].weight.requires_grad_(False)
    return model


def test_weights_buffers_modes_and_gradients_are_put_back_after_an_error_too() -> None:
    model = network()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    modes = [module.training for module in model.modules()]

    def score() -> None:
        with torch.no_grad(), left_as_it_was(model, "train"):
            # A frozen weight is scored like any other.
            assert model[0].weight.requires_grad
            assert torch.is_grad_enabled()
            assert all(module.training for module in model.modules())
            model(torch.randn(4, 3))
            with torch.no_grad():
                model[0].get_parameter("weight").zero_()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        score()
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert [module.training for module in model.modules()] == modes
    assert not model[0].weight.requires_grad
    assert model[0].bias.requires_grad


def test_without_a_mode_modules_stay_in_theirs() -> None:
    model = network()
    modes = [module.training for module in model.modules()]
    with left_as_it_was(model, None):
        assert [module.training for module in model.modules()] == modes


def test_layers_that_draw_depend_on_the_seed_alone_and_move_no_draw_outside() -> None:
    model, inputs = nn.Sequential(nn.Linear(3, 3), nn.Dropout(0.5)), torch.ones(2, 3)
    torch.manual_seed(5)
    wanted = torch.rand(1)
    found = []
    for seed in (1, 1, 2):
        torch.manual_seed(5)
        with layers_seeded(model, seed):
            found.append(model(inputs))
        assert torch.equal(torch.rand(1), wanted)
    assert torch.equal(found[0], found[1])
    assert not torch.equal(found[0], found[2])
