"""The slow derivatives that criteria are compared with."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from prune_search.pruning.mask.finite_differences import each_derivative, each_loss, in_doubles, mean_loss, moved
from prune_search.pruning.mask.scoring import Scoring
from prune_search.tasks.network import prunable_weights


def scoring() -> Scoring:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 2), nn.Tanh(), nn.Linear(2, 2))
    weights = prunable_weights(model)
    dense = {name: weight.detach().clone() for name, weight in weights.items()}
    batches = [(torch.randn(4, 3), torch.tensor([0, 1, 1, 0])) for _ in range(2)]
    return Scoring(model, weights, dense, lambda: batches, nn.functional.cross_entropy, 1, ())


def test_derivatives_are_those_of_autograd_and_every_weight_is_put_back() -> None:
    given = scoring()
    model, batches = in_doubles(given)
    before = {name: weight.detach().clone() for name, weight in given.weights.items()}
    found = each_derivative(given, lambda: mean_loss(given, model, batches))
    wanted = torch.autograd.grad(mean_loss(given, model, batches), list(given.weights.values()))
    for (name, values), grad in zip(found.items(), wanted, strict=True):
        assert torch.stack(values).tolist() == pytest.approx(grad.reshape(-1).tolist(), abs=1e-8)
        assert torch.equal(before[name], given.weights[name])


def test_the_losses_of_examples_average_to_the_loss() -> None:
    given = scoring()
    model, batches = in_doubles(given)
    losses = each_loss(given, model, batches)
    assert losses.shape == (8,)
    assert float(losses.mean().detach()) == pytest.approx(float(mean_loss(given, model, batches).detach()))


def test_a_weight_is_moved_for_a_while_even_when_something_fails() -> None:
    weight = torch.zeros(2, 2)
    with moved(weight, 2, 0.5):
        assert weight.tolist() == [[0.0, 0.0], [0.5, 0.0]]
    assert not bool(weight.any())
    with pytest.raises(ZeroDivisionError), moved(weight, 2, 0.5):
        raise ZeroDivisionError
    assert not bool(weight.any())
