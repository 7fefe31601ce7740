"""Networks that say in their state dict which of their layers were fused, and are built again from it."""

from __future__ import annotations

import copy
import json
from collections import OrderedDict
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from prune_search.recipe.problems import UserError
from prune_search.tasks.fusion import (
    RECORD,
    Fused,
    fused_parameters,
    is_record,
    records,
    records_of,
    restructured,
    unfuse,
)


def network() -> nn.Module:
    torch.manual_seed(0)
    inner = nn.Sequential(OrderedDict(conv=nn.Conv2d(2, 3, 3), bn=nn.BatchNorm2d(3), act=nn.ReLU()))
    return nn.Sequential(OrderedDict(block=inner, next=nn.Conv2d(3, 4, 3), flatten=nn.Flatten(), fc=nn.Linear(64, 5)))


SIDES = {"kernel_size": [5, 5], "stride": [1, 1], "padding": [0, 0]}
OPTIONS = {"in_channels": 2, "out_channels": 4, "bias": True, **SIDES}
GONE = {"block.conv.weight": (3, 2, 3, 3), "block.conv.bias": (3,), "block.bn.weight": (3,), "block.bn.bias": (3,)}
FUSED = Fused("Conv2d", OPTIONS, ("block.conv", "block.bn", "block.act"), GONE)


def tensors(fused: Fused = FUSED) -> dict[str, Tensor]:
    """The state dict of the network where `next` stands for the block."""
    found = {name: tensor for name, tensor in network().state_dict().items() if name.startswith("fc.")}
    own = {"weight": torch.randn(4, 2, 5, 5), "bias": torch.randn(4), RECORD: fused.encoded()}
    return {**found, **{f"next.{key}": tensor for key, tensor in own.items()}}


def test_a_record_comes_back_from_its_bytes() -> None:
    assert Fused.decoded(FUSED.encoded(), "next") == FUSED
    assert FUSED.encoded().dtype == torch.uint8


def test_a_network_takes_the_structure_of_tensors_and_computes_with_them() -> None:
    model, given = network(), tensors()
    assert restructured(model, given)
    assert set(model.state_dict()) == set(given)
    model.load_state_dict(given)
    x = torch.randn(3, 2, 8, 8)
    made = nn.functional.conv2d(x, given["next.weight"], given["next.bias"]).flatten(1)
    assert torch.equal(model(x), nn.functional.linear(made, given["fc.weight"], given["fc.bias"]))
    # A second time there is nothing to do, and a copy is as the network.
    assert not restructured(model, given)
    assert torch.equal(copy.deepcopy(model)(x), model(x))


def test_the_way_back_gives_the_modules_that_were_there() -> None:
    model = network()
    before, names = dict(model.named_modules()), list(model.state_dict())
    restructured(model, tensors())
    model.eval()
    assert restructured(model, network().state_dict())
    assert list(model.state_dict()) == names
    after = dict(model.named_modules())
    assert all(after[name] is module for name, module in before.items())
    assert not any(module.training for module in model.modules())
    unfuse(model)
    assert dict(model.named_modules()).keys() == before.keys()


def test_new_layers_draw_nothing_and_are_of_the_type_and_layout_of_the_old_ones() -> None:
    model = network().double().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    given = tensors()
    state = torch.get_rng_state()
    restructured(model, given)
    assert torch.equal(torch.get_rng_state(), state)
    weight = model.get_parameter("next.weight")
    assert weight.dtype == torch.float64
    assert weight.requires_grad
    assert not weight.any()
    assert weight.is_contiguous(memory_format=torch.channels_last)


def test_records_are_found_with_and_without_a_prefix() -> None:
    given = {f"model/{name}": tensor for name, tensor in tensors().items()}
    assert list(records(given, "model/")) == ["next"]
    model = network()
    assert records_of(model) == {}
    assert restructured(model, given, "model/")
    assert list(records_of(model)) == ["next"]
    assert fused_parameters(records_of(model)) == {name: ("next", shape) for name, shape in GONE.items()}
    assert is_record(f"a.b.{RECORD}")
    assert not is_record("a.weight")


@pytest.mark.parametrize(
    "change",
    [
        {"kind": "Module"},
        {"kind": 3},
        {"options": []},
        {"options": {"in_channels": -1}},
        {"options": {"in_channels": "x" * 20}},
        {"bypassed": [1]},
        {"removed": {"a": [2.5]}},
        {"removed": [1]},
    ],
)
def test_bytes_that_say_something_else_are_refused(change: dict[str, Any]) -> None:
    raw = {**json.loads(bytes(FUSED.encoded().tolist())), **change}
    record = torch.tensor(list(json.dumps(raw).encode()), dtype=torch.uint8)
    with pytest.raises(UserError, match="does not say what the layer stands for"):
        Fused.decoded(record, "next")


BYTES = [torch.tensor([], dtype=torch.uint8), torch.full((9,), 91, dtype=torch.uint8)]


@pytest.mark.parametrize("record", [torch.zeros(3), *BYTES])
def test_tensors_that_are_no_record_are_refused(record: Tensor) -> None:
    with pytest.raises(UserError, match=rf"next\.{RECORD}"):
        Fused.decoded(record, "next")


def test_what_does_not_go_with_the_network_is_refused_before_anything_is_changed() -> None:
    model = network()
    before = dict(model.named_modules())
    huge = {**OPTIONS, "out_channels": 2**31 - 1, "in_channels": 2**31 - 1}
    wrong = {
        "nobody": tensors(Fused("Conv2d", OPTIONS, ("block.nobody",), {})),
        "is (4, 2, 5, 5), and": tensors(Fused("Conv2d", {**OPTIONS, "in_channels": 3}, FUSED.bypassed, GONE)),
        "next": tensors(Fused("Conv2d", huge, FUSED.bypassed, GONE)),
        "cannot be made": tensors(Fused("Linear", OPTIONS, FUSED.bypassed, GONE)),
        "is missing": {name: tensor for name, tensor in tensors().items() if name != "next.weight"},
    }
    for told, given in wrong.items():
        with pytest.raises(UserError) as error:
            restructured(model, given)
        assert told in error.value.problems[0].message
    assert all(module is before[name] for name, module in model.named_modules())
