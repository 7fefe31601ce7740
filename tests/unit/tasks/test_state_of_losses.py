"""The state that a loss of one's own holds is found where a user can have put it."""

from __future__ import annotations

import functools

import torch
from torch import Tensor, nn

from prune_search.tasks.state_of_losses import changed, state_of


class Counting:
    """A loss that counts its calls."""

    def __init__(self) -> None:
        self.calls, self.note = 0, "x"

    def __call__(self, outputs: Tensor, batch: object) -> Tensor:
        """A scalar."""
        self.calls += 1
        return outputs.sum()


def test_numbers_and_tensors_of_objects_methods_partials_and_closures_are_found() -> None:
    one = Counting()
    for given in (one, one.__call__, functools.partial(one), lambda outputs: one(outputs, None)):
        before = state_of(given)
        assert [name for name, _ in before] == ["calls"]
        one(torch.ones(2), None)
        assert changed(before, state_of(given)) == [("calls", False)]


def test_buffers_are_told_from_attributes_and_come_from_modules_within() -> None:
    loss = nn.Sequential(nn.BatchNorm1d(2))
    before = state_of(loss)
    loss(torch.randn(4, 2))
    assert ("0.running_mean", True) in changed(before, state_of(loss))
    loss.eval()
    before = state_of(loss)
    loss(torch.randn(4, 2))
    assert changed(before, state_of(loss)) == []


def test_nothing_is_found_where_nothing_is() -> None:
    assert state_of(nn.functional.mse_loss) == {}
    assert changed(state_of(nn.MSELoss()), state_of(nn.MSELoss())) == []
