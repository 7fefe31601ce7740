"""A pass in training mode before anything is trained."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import Any

import pytest
import torch
from made_tasks import perceptron
from torch import Tensor, nn

from prune_search import Task, UserError
from prune_search.tasks.task_checks import fitted_task
from prune_search.tasks.task_data import TaskData, read_task
from prune_search.tasks.training_check import check_training

INPUTS, LABELS = torch.randn(20, 5, generator=torch.Generator().manual_seed(1)), torch.arange(20) % 2


class Normed(nn.Module):
    """Has a batch norm, a buffer that it replaces, and dropout; and may freeze a part of itself."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm, self.last = nn.Linear(5, 4), nn.BatchNorm1d(4), nn.Linear(4, 2)
        self.mean: Tensor
        self.register_buffer("mean", torch.zeros(4))

    def forward(self, inputs: Tensor) -> Any:
        """Scores [B, 2]."""
        found = nn.functional.dropout(self.norm(self.first(inputs)), training=self.training)
        if self.training:
            self.mean = 0.9 * self.mean + found.detach().mean(0)
        return self.last(found)


def fitted(model: nn.Module, **given: Any) -> TaskData:
    data, wrong = read_task("mine", Task(lambda: model, (INPUTS, LABELS), 0.2, **given))
    assert data is not None, wrong
    return fitted_task(data, model)


def test_nothing_is_changed_by_it() -> None:
    model = Normed()
    data, mean = fitted(model), model.mean
    before, state = torch.get_rng_state(), {name: value.clone() for name, value in model.state_dict().items()}
    model.norm.eval()
    check_training(data, model, 8)
    assert model.mean is mean
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    assert (model.training, model.norm.training) == (True, False)
    assert all(parameter.grad is None for parameter in model.parameters())
    assert torch.equal(torch.get_rng_state(), before)


def test_a_batch_of_one_is_too_few_for_a_batch_norm() -> None:
    data = fitted(model := Normed())
    with pytest.raises(UserError, match=r"in training mode the network does not accept a batch of .*more than 1 value"):
        check_training(data, model, 1)


def test_frozen_parts_are_fine_and_a_frozen_whole_is_not() -> None:
    model = perceptron(5, 2)
    model[0].requires_grad_(False)
    check_training(fitted(model), model, 8)
    model.requires_grad_(False)
    with pytest.raises(UserError, match="frozen"):
        check_training(fitted(model), model, 8)


def test_parameters_of_a_loss_are_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.ones(7))

        def forward(self, outputs: Tensor, batch: Any) -> Tensor:
            return nn.functional.cross_entropy(outputs * self.scale.mean(), batch[1])

    data = fitted(model := perceptron(5, 2), loss=Scaled())
    with caplog.at_level(logging.WARNING, "prune_search"):
        check_training(data, model, 8)
    assert caplog.messages == [
        "task mine: the loss has 7 parameters of its own, which are not trained: to train them, make them part of the "
        "network"
    ]


def test_data_that_were_not_fitted_have_no_loss() -> None:
    data = fitted(model := perceptron(5, 2))
    with pytest.raises(UserError, match="no loss"):
        check_training(replace(data, loss=None), model, 8)
