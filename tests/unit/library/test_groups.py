"""Scores of channels that layers share, against their plain definition."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from prune_search import UserError
from prune_search.library.groups import group_scores

X = torch.randn(4, 3, 6, 6, generator=torch.Generator().manual_seed(0))


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 2, 3), nn.Flatten(), nn.Linear(8, 5)).eval()


def first(weight: Tensor, following: Tensor) -> Tensor:
    """The l1 scores of a layer's outputs: the mean of the row and of the columns that read it."""
    return (weight.abs().sum((1, 2, 3)) + following.abs().sum((0, 2, 3))) / 2


def test_rows_and_the_columns_that_read_them_are_joined_and_divided_by_their_mean() -> None:
    model = network()
    found = group_scores(model, "l1", X)
    plain = first(model.get_parameter("0.weight").detach(), model.get_parameter("2.weight").detach())
    assert torch.allclose(found["0.weight"], plain / plain.mean(), rtol=1e-5)
    assert set(found) == {"0.weight", "2.weight"}, "the outputs of the network cannot be removed"
    unscaled = group_scores(model, "l1", X, over="sum", scale="none")["0.weight"]
    assert torch.allclose(unscaled, 2 * plain, rtol=1e-5)


def test_without_batches_the_stored_gradients_are_taken() -> None:
    model = network()
    with pytest.raises(UserError, match=r"needs batches, or gradients in \.grad"):
        group_scores(model, "taylor", X)
    labels = torch.tensor([0, 1, 2, 3])
    nn.functional.cross_entropy(model(X), labels).backward()  # type: ignore[no-untyped-call]
    stored = group_scores(model, "taylor", X)
    measured = group_scores(model, "taylor", X, batches=[(X, labels)])
    assert all(torch.allclose(stored[name], measured[name], rtol=1e-4) for name in measured)


@pytest.mark.parametrize(("option", "word"), [("over", "men"), ("scale", "median"), ("convention", "paper")])
def test_a_word_that_is_not_known_is_said_of_its_option(option: str, word: str) -> None:
    given: dict[str, Any] = {option: word}
    with pytest.raises(UserError) as refused:
        group_scores(network(), "l1", X, **given)
    assert [problem.path for problem in refused.value.problems] == [option]


def test_the_network_stays_as_it_was() -> None:
    model = network().train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    group_scores(model, "snip", X, batches=[(X, torch.zeros(4, dtype=torch.long))], mode="eval")
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    assert all(module.training for module in model.modules())
    assert all(parameter.grad is None for parameter in model.parameters())
