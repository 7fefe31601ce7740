"""From removed layers to the layer that will stand for them, and what is refused."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from prune_search.pruning.weights.layer_chains import MAX_INPUTS, Window, find_chains
from prune_search.recipe.problems import UserError

PICTURES = torch.randn(2, 3, 12, 12, generator=torch.Generator().manual_seed(0))


def net(*modules: nn.Module) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(OrderedDict((f"m{place}", module) for place, module in enumerate(modules)))


def refused(model: nn.Module, removed: str, example: Tensor = PICTURES) -> str:
    with pytest.raises(UserError) as told:
        find_chains(model, example, [removed])
    (problem,) = told.value.problems
    assert problem.path == "weights.transform"
    return problem.message


def test_windows_add_up_as_convolutions_do() -> None:
    first, second = Window((3,), (2,), (1,)), Window((5,), (3,), (2,))
    both = first.then(second)
    assert both == Window((11,), (6,), (5,))
    layers = nn.Sequential(nn.Conv1d(1, 1, 3, 2, 1), nn.Conv1d(1, 1, 5, 3, 2))
    as_one = nn.Conv1d(1, 1, both.kernel[0], both.stride[0], both.padding[0])
    for length in range(11, 60):
        x = torch.zeros(1, 1, length)
        assert layers(x).shape == as_one(x).shape


def test_two_convolutions_become_one_with_all_that_is_between() -> None:
    first, second = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 5, 3, padding=1)
    model = net(first, nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2), second)
    (chain,) = find_chains(model, PICTURES, ["m0.weight"])
    assert (chain.first, chain.into, chain.fused.kind) == ("m0", "m4", "Conv2d")
    # 3 + (2 - 1) + (3 - 1) 2 = 8; 1 + 1 · 2 = 3.
    sides = {"kernel_size": [8, 8], "stride": [2, 2], "padding": [3, 3]}
    assert chain.fused.options == {"in_channels": 3, "out_channels": 5, "bias": True, **sides}
    assert chain.fused.bypassed == ("m0", "m1", "m2", "m3")
    gone = {"m0.weight": (4, 3, 3, 3), "m0.bias": (4,), "m1.weight": (4,), "m1.bias": (4,)}
    assert chain.fused.removed == gone


def test_dilation_and_one_dimension() -> None:
    model = net(nn.Conv1d(3, 4, 3, dilation=2), nn.Tanh(), nn.Conv1d(4, 2, 2, stride=2))
    (chain,) = find_chains(model, PICTURES[:, :, 0], ["m0.weight"])
    assert chain.fused.kind == "Conv1d"
    assert [chain.fused.options[key] for key in ("kernel_size", "stride", "padding")] == [[6], [2], [0]]


def test_a_convolution_before_a_linear_layer_becomes_a_linear_layer_of_all_it_was_given() -> None:
    model = net(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Dropout(0.5), nn.Flatten(), nn.Linear(4, 7))
    (chain,) = find_chains(model, PICTURES, ["m0.weight"])
    assert chain.fused.options == {"in_features": 3 * 144, "out_features": 7, "bias": True}
    # What flattens stays.
    assert chain.fused.bypassed == ("m0", "m1", "m2", "m3")


def test_layers_that_are_removed_one_after_the_other_are_one_chain_and_others_apart() -> None:
    sizes = (nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))
    model, x = net(*sizes), torch.randn(2, 6)
    (chain,) = find_chains(model, x, ["m2.weight", "m0.weight"])
    assert (chain.first, chain.into) == ("m0", "m4")
    assert chain.fused.options == {"in_features": 6, "out_features": 3, "bias": True}
    chains = find_chains(model, x, ["m0.weight", "m4.weight"])
    assert [(one.first, one.into) for one in chains] == [("m0", "m2"), ("m4", "m6")]


class Branched(nn.Module):
    """Two layers, and what may be between or beside them."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.how = how
        self.first, self.second = nn.Linear(6, 6), nn.Linear(6, 6)
        self.act = nn.ReLU()
        self.last = nn.Linear(6, 2)
        if how == "tied":
            self.second.weight = self.first.weight

    def forward(self, x: Tensor) -> Tensor:
        one = self.first(x)
        two = functional.relu(one) if self.how == "function" else self.act(one)
        out = self.second(two)
        if self.how == "skip from inside":
            out = out + two
        if self.how == "skip around":
            out = out + x
        return self.last(self.act(out) if self.how == "shared" else out)  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("how", "told"),
    [
        ("function", "functions instead of modules"),
        ("skip from inside", "its output is used elsewhere too, not only by second"),
        ("shared", "act is run 2 times"),
        ("tied", "its weight is shared with second"),
    ],
)
def test_a_layer_whose_way_to_the_next_is_not_one_of_modules_alone_is_refused(how: str, told: str) -> None:
    message = refused(Branched(how), "first.weight", torch.randn(3, 6))
    assert message.startswith("fuse: first cannot be fused into the layer after it: ")
    assert told in message


def test_a_connection_around_both_layers_does_no_harm() -> None:
    (chain,) = find_chains(Branched("skip around"), torch.randn(3, 6), ["first.weight"])
    assert chain.into == "second"


@pytest.mark.parametrize(
    ("modules", "told"),
    [
        ((nn.Conv2d(3, 4, 3, padding_mode="circular", padding=1), nn.Conv2d(4, 2, 3)), "pads with circular values"),
        ((nn.Conv2d(3, 4, (3, 2), padding="same"), nn.Conv2d(4, 2, 3)), "pads its two sides differently"),
        ((nn.Conv2d(3, 4, 3), nn.MaxPool2d(2, ceil_mode=True), nn.Conv2d(4, 2, 3)), "ceil_mode"),
        ((nn.Conv2d(3, 4, 3), nn.ZeroPad2d(1), nn.Conv2d(4, 2, 3)), "m1 (ZeroPad2d) changes the size"),
        ((nn.ConvTranspose2d(3, 4, 3), nn.Conv2d(4, 2, 3)), "layers of type ConvTranspose2d cannot be"),
        ((nn.Conv2d(3, 4, 3), nn.ConvTranspose2d(4, 2, 3)), "m1 is a layer of type ConvTranspose2d"),
        ((nn.Conv2d(3, 4, 3), nn.ReLU()), "no layer follows it"),
        ((nn.Conv2d(3, 4, 3), nn.Flatten(2), nn.Linear(100, 2)), "m2 does not take all of an example at once"),
    ],
)
@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths:UserWarning")
def test_layers_that_do_not_go_together_are_refused(modules: tuple[Any, ...], told: str) -> None:
    assert told in refused(net(*modules), "m0.weight")


def test_a_fit_that_is_too_large_is_refused_with_both_sizes() -> None:
    model = net(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(4 * 58 * 58, 2))
    told = refused(model, "m0.weight", torch.zeros(1, 3, 60, 60))
    assert "10800" in told
    assert str(MAX_INPUTS) in told


def test_operations_that_change_in_place_are_followed() -> None:
    layers = nn.Linear(4, 3), nn.ReLU(inplace=True), nn.Linear(3, 3), nn.LeakyReLU(0.5, inplace=True), nn.Linear(3, 2)
    model = net(*layers)
    (chain,) = find_chains(model, torch.randn(5, 4), ["m0.weight"])
    assert chain.into == "m2"
