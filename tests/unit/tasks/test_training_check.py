"""A pass in training mode before anything is trained."""

from __future__ import annotations

import functools
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


class Centred(nn.Module):
    """A loss with a running mean of the outputs, as a buffer or as a plain attribute; and a cache that stays."""

    def __init__(self, buffer: bool, momentum: float = 0.9) -> None:
        super().__init__()
        self.momentum = momentum
        self.cached: Tensor | None = None
        self.center: Tensor
        if buffer:
            self.register_buffer("center", torch.zeros(2))
        else:
            self.center = torch.zeros(2)

    def forward(self, outputs: Tensor, batch: Any) -> Tensor:
        self.cached = torch.ones(2) if self.cached is None else self.cached
        self.center = self.momentum * self.center + (1 - self.momentum) * outputs.detach().mean(0)
        return nn.functional.cross_entropy((outputs - self.center) * self.cached, torch.as_tensor(batch[1]))


def test_buffers_of_a_loss_that_change_are_refused_however_it_is_held() -> None:
    loss = Centred(True)
    for given in (loss, loss.forward, functools.partial(loss), lambda outputs, batch: loss(outputs, batch)):
        data = fitted(model := perceptron(5, 2), loss=given)
        before = loss.center.clone()
        with pytest.raises(UserError, match=r"the loss changes its own buffer center .* move it into the network"):
            check_training(data, model, 8)
        assert torch.equal(loss.center, before)


def test_other_state_of_a_loss_that_changes_is_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    data = fitted(model := perceptron(5, 2), loss=Centred(False))
    with caplog.at_level(logging.WARNING, "prune_search"):
        check_training(data, model, 8)
    assert caplog.messages == [
        "task mine: the loss changes its own attribute center at each call, which is not stored with a trial: a "
        "resumed trial can differ from an unbroken one"
    ]


def test_a_loss_may_look_at_the_network_that_is_trained(caplog: pytest.LogCaptureFixture) -> None:
    model = Normed()

    def loss(outputs: Tensor, batch: Any) -> Tensor:
        again = model(batch[0])
        found: Tensor = nn.functional.cross_entropy(outputs, batch[1]) + (outputs - again).square().mean()
        return found

    data = fitted(model, loss=loss)
    with caplog.at_level(logging.WARNING, "prune_search"):
        check_training(data, model, 8)
    assert caplog.messages == []


def test_a_loss_whose_state_stays_is_fine(caplog: pytest.LogCaptureFixture) -> None:
    data = fitted(model := perceptron(5, 2), loss=Centred(True, momentum=1.0))
    with caplog.at_level(logging.WARNING, "prune_search"):
        check_training(data, model, 8)
    assert caplog.messages == []
