"""Optimizers: stopped and restored is the same as never stopped, bit for bit."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from prune_search.recipe.axes import OPTIMIZERS
from prune_search.recipe.fields import Value
from prune_search.recipe.problems import UserError
from prune_search.recipe.reading import Reading
from prune_search.training.optimizers import load_state_tensors, state_tensors, zero_masked

KINDS: list[tuple[str, dict[str, Any]]] = [
    ("sgd", {}),
    ("sgd", {"momentum": 0.0}),
    ("sgd", {"nesterov": True}),
    ("adam", {}),
    ("adam", {"weight_decay": 0.1}),
    ("adamw", {}),
]
WITH_BUFFERS: list[tuple[str, dict[str, Any]]] = [("sgd", {}), ("adam", {}), ("adamw", {})]


def network(channels_last: bool = False) -> nn.Module:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 5, 3), nn.BatchNorm2d(5), nn.ReLU(), nn.Flatten(), nn.Linear(5 * 36, 7))
    if channels_last:
        model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return model


def names_of(model: nn.Module) -> dict[nn.Parameter, str]:
    return {parameter: name for name, parameter in model.named_parameters()}


def train(model: nn.Module, optimizer: torch.optim.Optimizer, steps: range) -> None:
    for step in steps:
        source = torch.Generator().manual_seed(step)
        inputs, labels = torch.randn(4, 3, 8, 8, generator=source), torch.randint(7, (4,), generator=source)
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(inputs), labels).backward()  # type: ignore[no-untyped-call]
        optimizer.step()


def assert_same(one: dict[str, Tensor], other: dict[str, Tensor]) -> None:
    assert one.keys() == other.keys()
    assert [name for name in one if not torch.equal(one[name], other[name])] == []


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize(("name", "options"), KINDS)
def test_stopping_and_going_on_is_the_same_as_never_stopping(
    name: str, options: dict[str, Any], channels_last: bool
) -> None:
    whole = network(channels_last)
    whole_optimizer = OPTIMIZERS[name].make(whole.parameters(), **options)
    train(whole, whole_optimizer, range(10))

    first = network(channels_last)
    optimizer = OPTIMIZERS[name].make(first.parameters(), **options)
    train(first, optimizer, range(5))
    weights = copy.deepcopy(first.state_dict())
    buffers = state_tensors(optimizer, names_of(first))
    train(first, optimizer, range(5, 6))  # what was stored is not moved by going on

    second = network(channels_last)
    second.load_state_dict(weights)
    second_optimizer = OPTIMIZERS[name].make(second.parameters(), **options)
    load_state_tensors(second_optimizer, names_of(second), buffers)
    given = {key: value.clone() for key, value in buffers.items()}
    train(second, second_optimizer, range(5, 10))

    assert_same(whole.state_dict(), second.state_dict())
    assert_same(state_tensors(whole_optimizer, names_of(whole)), state_tensors(second_optimizer, names_of(second)))
    assert_same(buffers, given)


@pytest.mark.parametrize(("name", "options"), KINDS)
def test_it_is_the_algorithm_that_torch_documents(name: str, options: dict[str, Any]) -> None:
    plain = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[name]
    defaults: dict[str, Any] = {"sgd": {"lr": 0.1, "momentum": 0.9, "weight_decay": 5e-4}}.get(name, {})
    source = torch.Generator().manual_seed(0)
    start = torch.randn(10_007, generator=source)
    ours, theirs = nn.Parameter(start.clone()), nn.Parameter(start.clone())
    optimizers = (
        OPTIMIZERS[name].make([ours], **options),
        plain([theirs], fused=False, foreach=False, **{**defaults, **options}),
    )
    for _ in range(5):
        ours.grad = torch.randn(10_007, generator=source)
        theirs.grad = ours.grad.clone()
        for optimizer in optimizers:
            optimizer.step()
    torch.testing.assert_close(ours, theirs)


def test_the_canonical_form_writes_the_defaults_out() -> None:
    reading = Reading()
    assert Value(OPTIMIZERS).read("sgd", "train.optimizer", reading) == {
        "name": "sgd",
        "lr": 0.1,
        "momentum": 0.9,
        "weight_decay": 5e-4,
        "nesterov": False,
    }
    adam = {"lr": 0.001, "beta1": 0.9, "beta2": 0.999, "eps": 1e-8}
    assert Value(OPTIMIZERS).read("adam", "train.optimizer", reading) == {"name": "adam", **adam, "weight_decay": 0.0}
    assert Value(OPTIMIZERS).read("adamw", "train.optimizer", reading) == {
        "name": "adamw",
        **adam,
        "weight_decay": 0.01,
    }
    assert reading.problems == []


@pytest.mark.parametrize("wrong", [{"lr": 0.0}, {"lr": -1.0}, {"eps": 0.0}, {"beta1": 1.0}, {"weight_decay": -0.1}])
def test_what_adam_cannot_do_is_refused_with_its_key(wrong: dict[str, float]) -> None:
    reading = Reading()
    Value(OPTIMIZERS).read({"name": "adam", **wrong}, "train.optimizer", reading)
    assert [problem.path for problem in reading.problems] == [f"train.optimizer.{key}" for key in wrong]


def test_nesterov_without_momentum_is_refused() -> None:
    with pytest.raises(UserError) as caught:
        OPTIMIZERS["sgd"].make(network().parameters(), momentum=0.0, nesterov=True)
    assert caught.value.problems[0].path == "nesterov"


def test_the_rate_of_the_next_step_can_be_set() -> None:
    still = network()
    before = copy.deepcopy(list(still.parameters()))
    optimizer = OPTIMIZERS["sgd"].make(still.parameters(), 0.5)
    assert [group["lr"] for group in optimizer.param_groups] == [0.5]
    optimizer.param_groups[0]["lr"] = 0.0
    train(still, optimizer, range(2))
    assert all(torch.equal(old, new) for old, new in zip(before, still.parameters(), strict=True))


@pytest.mark.parametrize(("name", "options"), WITH_BUFFERS)
def test_buffers_are_named_after_their_parameters(name: str, options: dict[str, Any]) -> None:
    model = network()
    optimizer = OPTIMIZERS[name].make(model.parameters(), **options)
    assert state_tensors(optimizer, names_of(model)) == {}
    train(model, optimizer, range(2))
    buffers = ("momentum_buffer",) if name == "sgd" else ("exp_avg", "exp_avg_sq", "step")
    found = state_tensors(optimizer, names_of(model))
    assert set(found) == {f"{parameter}/{buffer}" for parameter in names_of(model).values() for buffer in buffers}
    assert all(value.is_contiguous() for value in found.values())


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize(("name", "options"), WITH_BUFFERS)
def test_masked_weights_and_buffers_stay_exactly_zero(name: str, options: dict[str, Any], channels_last: bool) -> None:
    model = network(channels_last)
    optimizer = OPTIMIZERS[name].make(model.parameters(), **options)
    train(model, optimizer, range(2))
    parameter = model.get_parameter("0.weight")
    mask = torch.rand(parameter.shape, generator=torch.Generator().manual_seed(0)) < 0.5
    before = state_tensors(optimizer, names_of(model))
    zero_masked(optimizer, parameter, mask)
    for key, value in state_tensors(optimizer, names_of(model)).items():
        masked = key.startswith("0.weight/") and key != "0.weight/step"
        assert torch.equal(value, before[key].where(mask, torch.zeros(())) if masked else before[key])

    with torch.no_grad():
        parameter.masked_fill_(~mask, 0.0)
    parameter.register_hook(lambda gradient: gradient * mask)  # type: ignore[no-untyped-call]
    train(model, optimizer, range(2, 5))
    assert not parameter[~mask].any()
    assert parameter[mask].all()
    for key, value in state_tensors(optimizer, names_of(model)).items():
        if key.startswith("0.weight/") and key != "0.weight/step":
            assert not value[~mask].any()


def test_masking_a_scalar_leaves_the_count_of_steps_alone() -> None:
    scalar = nn.Parameter(torch.tensor(1.0))
    optimizer = OPTIMIZERS["adam"].make([scalar])
    scalar.grad = torch.tensor(1.0)
    optimizer.step()
    zero_masked(optimizer, scalar, torch.tensor(False))
    found = state_tensors(optimizer, {scalar: "scale"})
    assert {key: value.item() for key, value in found.items()} == {
        "scale/exp_avg": 0.0,
        "scale/exp_avg_sq": 0.0,
        "scale/step": 1.0,
    }


def test_masking_before_the_first_step_does_nothing_and_a_wrong_mask_is_refused() -> None:
    model = network()
    optimizer = OPTIMIZERS["adam"].make(model.parameters())
    parameter = model.get_parameter("4.bias")
    zero_masked(optimizer, parameter, torch.zeros(7, dtype=torch.bool))
    train(model, optimizer, range(1))
    for mask in (torch.ones(7), torch.ones(1, dtype=torch.bool), torch.ones(2, 7, dtype=torch.bool)):
        with pytest.raises(ValueError, match="must be bool of shape"):
            zero_masked(optimizer, parameter, mask)


def test_tensors_that_do_not_fit_are_refused_and_nothing_is_changed() -> None:
    model = network()
    optimizer = OPTIMIZERS["sgd"].make(model.parameters())
    train(model, optimizer, range(2))
    names = names_of(model)
    before = state_tensors(optimizer, names)
    for key, value in {"nobody/momentum_buffer": torch.zeros(7), "4.bias/momentum_buffer": torch.zeros(8)}.items():
        with pytest.raises(ValueError, match=key):
            load_state_tensors(optimizer, names, {**before, key: value})
    assert_same(state_tensors(optimizer, names), before)


def test_loading_nothing_forgets_the_buffers() -> None:
    model = network()
    optimizer = OPTIMIZERS["adam"].make(model.parameters())
    train(model, optimizer, range(2))
    load_state_tensors(optimizer, names_of(model), {})
    assert state_tensors(optimizer, names_of(model)) == {}


@pytest.mark.parametrize(("name", "options"), KINDS)
def test_a_parameter_may_get_its_first_gradient_late(name: str, options: dict[str, Any]) -> None:
    early, late = nn.Parameter(torch.ones(3)), nn.Parameter(torch.ones(3))
    optimizer = OPTIMIZERS[name].make([early, late], **options)
    early.grad = torch.ones(3)
    optimizer.step()
    assert late.tolist() == [1.0, 1.0, 1.0]
    after_one = early.detach().clone()
    early.grad, late.grad = None, torch.ones(3)
    optimizer.step()
    torch.testing.assert_close(late.detach(), after_one)


@pytest.mark.parametrize(("name", "options"), KINDS)
def test_a_gradient_that_lies_otherwise_in_memory_moves_the_right_weights(name: str, options: dict[str, Any]) -> None:
    results = []
    for layout in (torch.contiguous_format, torch.channels_last):
        source = torch.Generator().manual_seed(0)
        parameter = nn.Parameter(torch.randn(4, 3, 2, 2, generator=source))
        optimizer = OPTIMIZERS[name].make([parameter], **options)
        for _ in range(3):
            parameter.grad = torch.randn(4, 3, 2, 2, generator=source).contiguous(memory_format=layout)
            optimizer.step()
        results.append(parameter.detach())
    assert torch.equal(*results)
