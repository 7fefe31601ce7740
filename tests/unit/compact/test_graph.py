"""Networks as data: what is described computes the same, and nothing that is not on the list is ever built."""

from __future__ import annotations

import json
from collections import OrderedDict
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from prune_search.compact.graph import Described, build, read
from prune_search.compact.operations import FUNCTIONS, LAYERS
from prune_search.compact.tracing import UndescribedError, described
from prune_search.recipe.axes import MODELS
from prune_search.recipe.problems import UserError
from prune_search.recipe.space import read_space


def registered(name: str, shape: tuple[int, ...]) -> nn.Module:
    recipe = read_space({"preset": "snip", "task": {"model": name}}, "a test").only_recipe()
    written = recipe.blocks["task"]["model"]
    options = {} if isinstance(written, str) else {key: value for key, value in written.items() if key != "name"}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model: nn.Module = MODELS[name].make(shape, 10, **options)
    return model.eval()


def again(made: Described) -> Described:
    """Through JSON and the strict reader."""
    data = json.loads(json.dumps(made.description.as_data()))
    return build(read(data, "config.json"), made.state_dict(), "config.json")


# Attention and routing are no operations of theirs: such networks are cut out of the graph of torch.export.
OF_THE_GRAPH = {"small-vit", "small-moe"}


@pytest.mark.parametrize("name", sorted(set(MODELS) - OF_THE_GRAPH))
def test_every_registered_model_is_described_and_computes_the_same(name: str) -> None:
    shape = (3, 8, 8)
    model = registered(name, shape)
    made = described(model, shape)
    x = torch.randn(2, *shape, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert torch.equal(again(made)(x), model(x))
    assert list(made.state_dict()) == list(model.state_dict())


class Odds(nn.Module):
    """Functions, methods and operators in the ways that people write them."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, padding="same", padding_mode="reflect")
        self.up = nn.ConvTranspose2d(8, 4, 2, stride=2)
        self.norm = nn.GroupNorm(2, 4)
        self.act = nn.PReLU(4)
        self.drop = nn.Dropout(0.5)
        self.shift = nn.Parameter(torch.randn(1, 4, 1, 1))
        self.fc = nn.Linear(8 * 4 * 4, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = functional.gelu(self.conv(x))
        y = self.act(self.norm(self.up(x))) + self.shift
        y = functional.max_pool2d(functional.leaky_relu(y, 0.2), kernel_size=4)
        z = functional.avg_pool2d(x, 2).mul(0.5).tanh()[:, :4, :, :]
        x = torch.cat([y, z - y], dim=1)
        x = functional.dropout(x, training=self.training)
        x = self.drop(x.view(x.size(0), -1))
        return functional.log_softmax(2 * self.fc(x) / 3, dim=1)


class Attention(nn.Module):
    """Matrix products, transposes and shapes."""

    def __init__(self) -> None:
        super().__init__()
        self.queries, self.keys = nn.Linear(6, 6), nn.Linear(6, 6)
        self.norm = nn.LayerNorm(6)

    def forward(self, x: Tensor) -> Tensor:
        batch = x.shape[0]
        x = self.norm(x.reshape(batch, 4, 6))
        weights = (self.queries(x) @ self.keys(x).transpose(1, 2)).softmax(dim=-1)
        weights = weights / weights.sum(-1, keepdim=True)
        mixed: Tensor = torch.matmul(weights, x).permute(0, 2, 1).mean(2)
        return mixed


@pytest.mark.parametrize(("model", "shape"), [(Odds(), (3, 8, 8)), (Attention(), (24,))])
def test_what_people_write_is_described(model: nn.Module, shape: tuple[int, ...]) -> None:
    x = torch.randn(3, *shape, generator=torch.Generator().manual_seed(0))
    model.eval()
    with torch.no_grad():
        assert torch.equal(again(described(model, shape))(x), model(x))


class Branches(nn.Module):
    """What it does depends on the values."""

    def forward(self, x: Tensor) -> Tensor:
        return x if bool(x.sum() > 0) else -x


class Sorts(nn.Module):
    """Calls something that is not on the list."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.sort(x).values


class Idle(nn.Module):
    """Has a layer that plays no part."""

    def __init__(self) -> None:
        super().__init__()
        self.used, self.unused = nn.Linear(4, 4), nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.used(x)
        return out


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        (Branches(), "torch.fx cannot follow it"),
        (Sorts(), "it calls sort, which is not supported"),
        (nn.Sequential(nn.Linear(4, 4), nn.LSTM(4, 4)), "torch.fx cannot follow it|LSTM"),
        (Idle(), "unused.bias is not used by its output"),
    ],
)
def test_what_cannot_be_described_says_why(model: nn.Module, reason: str) -> None:
    with pytest.raises(UndescribedError, match=reason):
        described(model, (4,))


def test_describing_leaves_the_network_alone() -> None:
    model = nn.Sequential(OrderedDict(a=nn.Linear(4, 4), b=nn.BatchNorm1d(4), c=nn.Dropout()))
    model.train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    state = torch.get_rng_state()
    described(model, (4,))
    assert torch.equal(torch.get_rng_state(), state)
    assert all(module.training for module in model.modules())
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


LINEAR = {
    "name": "n0",
    "op": "Linear",
    "inputs": ["input"],
    "options": {"in_features": 4, "out_features": 2, "bias": False},
    "layer": "fc",
}
WEIGHTS = {"fc.weight": torch.zeros(2, 4)}


def config(*nodes: dict[str, Any], shape: Any = (4,)) -> dict[str, Any]:
    return {"input": list(shape), "nodes": list(nodes)}


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"op": "Bilinear"}, "op: 'Bilinear' is not one of"),
        ({"op": "system"}, "op: 'system' is not one of"),
        ({"op": "__import__"}, "op: '__import__' is not one of"),
        ({"layer": "forward"}, "is not a valid name"),
        ({"layer": "__class__.__init__"}, "is not a valid name"),
        ({"layer": "a.__dict__"}, "is not a valid name"),
        ({"layer": ""}, "is not a valid name"),
        ({"name": "a; import os"}, "is invalid or already used"),
        ({"name": "input"}, "is invalid or already used"),
        ({"inputs": ["later"]}, "is not an earlier node"),
        ({"inputs": ["input", "input"]}, "takes 1 to 1 inputs"),
        ({"inputs": [1]}, "inputs must be names"),
        ({"options": {"in_features": 4}}, "takes the options bias, in_features, out_features"),
        ({"options": {"in_features": 4, "out_features": 2, "bias": False, "device": "cuda"}}, "takes the options"),
        ({"options": {"in_features": 4, "out_features": 2**40, "bias": False}}, "out_features cannot be"),
        ({"options": {"in_features": 4, "out_features": True, "bias": False}}, "out_features cannot be"),
        ({"options": []}, "options must be a dict"),
        ({"code": "print()"}, "must have name and op"),
    ],
)
def test_a_hostile_description_is_refused(change: dict[str, Any], reason: str) -> None:
    with pytest.raises(UserError, match=reason):
        read(config({**LINEAR, **change}), "config.json")


@pytest.mark.parametrize("data", [None, [], {}, {"input": [4], "nodes": []}, {"input": [4], "nodes": "x"}, "text"])
def test_what_is_no_description_is_refused(data: Any) -> None:
    with pytest.raises(UserError, match=r"config\.json"):
        read(data, "config.json")


def test_the_tensors_must_be_those_that_are_described() -> None:
    good = read(config(LINEAR), "config.json")
    assert build(good, WEIGHTS, "x")(torch.ones(1, 4)).shape == (1, 2)
    for wrong in ({}, {"fc.weight": torch.zeros(2, 5)}, {**WEIGHTS, "more": torch.zeros(1)}):
        with pytest.raises(UserError, match=r"missing|described"):
            build(good, wrong, "x")


def test_a_description_of_a_network_larger_than_its_file_allocates_nothing() -> None:
    large = {**LINEAR, "options": {"in_features": 2**24, "out_features": 2**24, "bias": False}}
    with pytest.raises(UserError, match=r"fc\.weight is \(2, 4\), described as"):
        build(read(config(large, shape=(2**24,)), "x"), WEIGHTS, "x")


def test_operations_that_do_not_go_together_are_refused() -> None:
    odd = {"name": "n1", "op": "max_pool2d", "inputs": ["n0"]}
    odd["options"] = {"kernel_size": 9, "stride": 1, "padding": 0, "dilation": 1, "ceil_mode": False}  # type: ignore[assignment]
    with pytest.raises(UserError, match="the operations do not fit together"):
        build(read(config(LINEAR, odd), "x"), WEIGHTS, "x")


def test_a_layer_that_is_described_twice_must_be_one_layer() -> None:
    other = {**LINEAR, "name": "n1", "options": {**LINEAR["options"], "in_features": 5}}  # type: ignore[dict-item]
    with pytest.raises(UserError, match="described twice in different ways"):
        read(config(LINEAR, other), "x")
    inside = {**LINEAR, "name": "n1", "layer": "fc.more"}
    with pytest.raises(UserError, match="is nested inside another"):
        read(config(LINEAR, inside), "x")


def test_the_list_has_no_name_twice() -> None:
    assert not set(LAYERS) & set(FUNCTIONS)
