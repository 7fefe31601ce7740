"""How a network is run where more than its outputs is wanted: modes, draws, dropout and wrappers."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from prune_search.tasks.passes import evaluating, same_draws, twin_of, unfused, unwrapped, without_dropout


def test_every_modules_own_mode_is_restored_even_after_an_error() -> None:
    net = nn.Sequential(nn.Dropout(), nn.BatchNorm1d(2))
    net[1].eval()
    with evaluating(net):
        assert (net.training, torch.is_grad_enabled()) == (False, False)
    with pytest.raises(RuntimeError), evaluating(net):
        net(torch.ones(1, 3))
    assert (net.training, net[0].training, net[1].training) == (True, True, False)
    assert torch.is_grad_enabled()


def test_nothing_is_dropped_even_by_what_always_drops() -> None:
    x = torch.ones(100)
    with without_dropout():
        assert torch.equal(functional.dropout(x, 0.5), x)
        assert torch.equal(functional.dropout(input=x, p=0.5), x)
    assert not torch.equal(functional.dropout(x, 0.5), x)


def test_draws_are_the_same_every_time_and_move_none_outside() -> None:
    before = torch.get_rng_state()
    drawn = []
    for _ in range(2):
        with same_draws(torch.zeros(1)):
            drawn.append(torch.rand(3))
    assert torch.equal(*drawn)
    assert torch.equal(torch.get_rng_state(), before)


def test_settings_of_fused_layers_come_back() -> None:
    before = (torch.backends.mha.get_fastpath_enabled(), torch.backends.mkldnn.enabled)
    with unfused():
        assert not torch.backends.mha.get_fastpath_enabled()
    assert (torch.backends.mha.get_fastpath_enabled(), torch.backends.mkldnn.enabled) == before


def test_the_network_is_found_in_its_wrappers() -> None:
    net = nn.Linear(2, 2)
    assert unwrapped(nn.DataParallel(nn.DataParallel(net))) is net
    assert unwrapped(net) is net


class Noting(nn.Module):
    """Keeps what it computed, which is of a graph: torch refuses to copy that."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(2, 2)
        self.seen: list[Tensor] = []

    def forward(self, x: Tensor) -> Tensor:
        self.seen = [self.layer(x)]
        return self.seen[0]


def test_a_twin_has_values_of_its_own_whatever_the_network_noted() -> None:
    net = Noting()
    net(torch.ones(1, 2))
    twin = twin_of(net)
    assert isinstance(twin, Noting)
    assert torch.equal(twin.layer.weight, net.layer.weight)
    assert twin.layer.weight is not net.layer.weight
    assert torch.equal(twin.seen[0], net.seen[0])
    assert twin.seen[0].grad_fn is None
