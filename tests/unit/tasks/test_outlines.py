"""Networks that are built without the values of their weights."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn

from prune_search.tasks.outlines import filled, has_values, lost_values, outlined, without_its_values, without_values


def next_draw(build: Callable[[], object], outline: bool) -> float:
    """What torch's generator draws after something was built."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(3)
        if outline:
            with without_values(lambda module, leaf: True) as notes:
                build()
            assert notes == []
        else:
            build()
        return torch.rand(1).item()


def wide() -> torch.Tensor:
    return nn.Linear(64, 12).weight


@pytest.mark.parametrize(
    "build",
    [
        wide,
        lambda: nn.Conv2d(3, 4, 3),
        lambda: nn.Embedding(5, 4),
        lambda: nn.MultiheadAttention(12, 3),
        lambda: nn.LSTM(3, 4),
        lambda: nn.init.trunc_normal_(wide(), std=0.02),
        lambda: nn.init.orthogonal_(wide()),
        lambda: nn.init.kaiming_normal_(wide()),
        lambda: nn.init.sparse_(wide(), 0.5),
        lambda: wide().data.bernoulli_(0.5),
    ],
)
def test_the_generator_is_left_as_if_all_was_drawn(build: Callable[[], object]) -> None:
    assert next_draw(build, True) == next_draw(build, False)


def test_only_what_is_asked_for_is_left_out_and_torch_is_as_before() -> None:
    register = nn.Module.register_parameter
    truncated = nn.init._no_grad_trunc_normal_
    with without_values(lambda module, leaf: leaf == "weight") as notes:
        model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    assert notes == []
    assert [one.is_meta for one in model.parameters()] == [True, False, True, False]
    assert not has_values(model)
    assert model.get_buffer("1.running_var").tolist() == [1.0] * 4
    assert nn.Module.register_parameter is register
    assert nn.init._no_grad_trunc_normal_ is truncated
    empty = outlined(model)
    assert all(one.is_meta for one in [*empty.parameters(), *empty.buffers()])
    assert empty(torch.zeros(2, 3, device="meta")).shape == (2, 4)
    assert filled(model, 2.0).get_parameter("0.weight").tolist() == [[2.0] * 3] * 4
    # The network itself was not changed.
    assert not model.get_parameter("0.bias").is_meta


def test_values_that_would_be_lost_are_noted() -> None:
    with without_values(lambda module, leaf: True) as notes:
        layer = nn.Linear(3, 4)
        with torch.no_grad():
            layer.weight.copy_(torch.ones(4, 3))
            layer.bias.uniform_(generator=torch.Generator())
        layer.weight = nn.Parameter(torch.ones(4, 3))
        torch.manual_seed(1)
    assert [note.removeprefix("its factory ").split()[0] for note in notes] == ["copies", "draws", "replaces", "seeds"]
    model = nn.Sequential(nn.Linear(3, 4))
    assert lost_values(model) == []
    bias = model.get_parameter("0.bias")
    values = bias.tolist()
    assert without_its_values(bias).tolist() == values
    assert bias.is_meta
    assert model.get_parameter("0.bias") is bias
    model.register_buffer("start", model.get_parameter("0.weight").detach().to("meta"))
    assert lost_values(model) == ["the network keeps weights, or what is computed from them, in an attribute too"]
