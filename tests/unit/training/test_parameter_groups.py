"""Groups of an optimizer: what decays, and how fast each layer learns."""

from __future__ import annotations

import contextlib
from collections import OrderedDict
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from prune_search.recipe.axes import OPTIMIZERS
from prune_search.tasks.data import Split
from prune_search.training.loop import Course, Feed, Network, train
from prune_search.training.optimizers import load_state_tensors, set_rate, state_tensors
from prune_search.training.parameter_groups import Group, layer_factors, parameter_groups


class Block(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.attention = nn.MultiheadAttention(width, 2, batch_first=True)
        self.up, self.down = nn.Linear(width, 2 * width), nn.Linear(2 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        normed = self.norm(x)
        x = x + self.attention(normed, normed, normed, need_weights=False)[0]
        down: Tensor = self.down(self.up(x).relu())
        return x + down


class Transformer(nn.Module):
    """Defined from its output back, and with a parameter of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(8, 4)
        self.blocks = nn.ModuleList(Block(8) for _ in range(3))
        self.embed = nn.Linear(5, 8)
        self.place = nn.Parameter(torch.zeros(1, 6, 8))

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x) + self.place
        for block in self.blocks:
            x = block(x)
        head: Tensor = self.head(x.mean(dim=1))
        return head


def named(model: nn.Module, factors: dict[nn.Parameter, float]) -> dict[str, float]:
    return {name: factors[parameter] for name, parameter in model.named_parameters()}


def test_each_layer_of_a_plain_network_learns_slower_than_the_next() -> None:
    layers: OrderedDict[str, nn.Module] = OrderedDict(
        a=nn.Linear(6, 5), an=nn.BatchNorm1d(5), b=nn.Linear(5, 4), c=nn.Linear(4, 3)
    )
    model = nn.Sequential(layers)
    found = named(model, layer_factors(model, torch.zeros(2, 6), 0.5))
    assert found == {
        **{f"a.{key}": 0.25 for key in ("weight", "bias")},
        **{f"an.{key}": 0.25 for key in ("weight", "bias")},
        **{f"b.{key}": 0.5 for key in ("weight", "bias")},
        **{f"c.{key}": 1.0 for key in ("weight", "bias")},
    }


def test_a_block_of_alike_blocks_is_one_layer_in_the_order_of_the_forward_pass() -> None:
    model = Transformer()
    model.train()
    found = named(model, layer_factors(model, torch.zeros(1, 6, 5), 0.5))
    assert model.training
    assert found["head.weight"] == found["head.bias"] == 1.0
    for index in range(3):
        own = {value for name, value in found.items() if name.startswith(f"blocks.{index}.")}
        assert own == {0.5 ** (3 - index)}, index
    assert found["embed.weight"] == 0.5**4
    assert found["place"] == 0.5**5
    assert not any(module._forward_pre_hooks for module in model.modules())


def test_norms_and_biases_do_not_decay_where_that_is_asked_for() -> None:
    model = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3), nn.Linear(3, 2))
    parameters = list(model.parameters())
    assert parameter_groups(parameters) == parameters
    groups: Any = parameter_groups(parameters, decay_norms=False)
    optimizer = OPTIMIZERS["adamw"].make(groups, 0.1, weight_decay=0.5)
    decay = {id(p): group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
    assert [decay[id(p)] for p in parameters] == [0.5, 0.0, 0.0, 0.0, 0.5, 0.0]


def test_every_group_has_its_own_share_of_the_rate() -> None:
    model = nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 2))
    factors = layer_factors(model, torch.zeros(1, 4), 0.1)
    groups: list[Any] = parameter_groups(list(model.parameters()), False, factors)
    optimizer = torch.optim.SGD(groups, lr=1.0)
    set_rate(optimizer, 0.5)
    rates = {id(p): group["lr"] for group in optimizer.param_groups for p in group["params"]}
    assert [rates[id(p)] for p in model.parameters()] == pytest.approx([0.05, 0.05, 0.5, 0.5])


# What a sampler draws for a parameter depends on its number among all of the optimizer's.
@pytest.mark.parametrize("name", [name for name in sorted(OPTIMIZERS) if not OPTIMIZERS[name].facts.samples])
def test_groups_train_as_an_optimizer_of_each_and_are_stored_and_restored(name: str) -> None:
    """Two groups of factors 0.5 and 1 are as two optimizers, the first at half the rate; also after a stop."""
    source = torch.Generator().manual_seed(1)
    split = Split(torch.randn(32, 6, generator=source), torch.randint(3, (32,), generator=source))
    options = {"weight_decay": 0.01}

    def network() -> Network:
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(6, 5), nn.Linear(5, 3))
        return Network(model, torch.device("cpu"), contextlib.nullcontext, nn.functional.cross_entropy)

    def grouped(net: Network) -> torch.optim.Optimizer:
        factors = layer_factors(net.model, torch.zeros(1, 6), 0.5)
        groups: list[nn.Parameter] | list[Group] = parameter_groups(list(net.model.parameters()), True, factors)
        return OPTIMIZERS[name].make(groups, 0.02, **options)

    whole, stopped, apart = network(), network(), network()
    optimizer = grouped(whole)
    train(whole, Course(optimizer, Feed(split, 8, 3), 0, lambda step: 0.02), 0, 6)
    first = grouped(stopped)
    train(stopped, Course(first, Feed(split, 8, 3), 0, lambda step: 0.02), 0, 3)
    names = {parameter: key for key, parameter in stopped.model.named_parameters()}
    second = grouped(stopped)
    load_state_tensors(second, names, state_tensors(first, names))
    train(stopped, Course(second, Feed(split, 8, 3), 0, lambda step: 0.02), 3, 6)
    layers = [OPTIMIZERS[name].make(list(layer.parameters()), 0.02, **options) for layer in apart.model.children()]
    for step in range(6):
        set_rate(layers[0], 0.01)
        set_rate(layers[1], 0.02)
        apart.model.zero_grad()
        apart.gradients(apart, Feed(split, 8, 3), step)
        for one in layers:
            one.step()
    for a, b, c in zip(whole.model.parameters(), stopped.model.parameters(), apart.model.parameters(), strict=True):
        assert torch.equal(a, b)
        torch.testing.assert_close(a, c)
