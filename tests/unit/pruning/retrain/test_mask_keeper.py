"""The keeper: a masked weight is +0.0 and has no momentum, at every step, whatever the optimizer does."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from prune_search.pruning.mask.mask_set import MaskSet
from prune_search.pruning.retrain.mask_keeper import MaskKeeper, masks_of
from prune_search.recipe.axes import OPTIMIZERS

KINDS: list[tuple[str, dict[str, Any]]] = [
    ("sgd", {"momentum": 0.9, "weight_decay": 0.1}),
    ("sgd", {"momentum": 0.9, "weight_decay": 0.1, "nesterov": True}),
    ("sgd", {"momentum": 0.0, "weight_decay": 0.0}),
    ("adam", {"weight_decay": 0.1}),
    ("adamw", {"weight_decay": 0.1}),
]


def network() -> nn.Module:
    torch.manual_seed(3)
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 5))


def masks_for(model: nn.Module, seed: int) -> MaskSet:
    source = torch.Generator().manual_seed(seed)
    shapes = {name: p.shape for name, p in model.named_parameters() if name in ("0.weight", "4.weight")}
    masks = {name: torch.rand(shape, generator=source) < 0.4 for name, shape in shapes.items()}
    return MaskSet(masks, {name: (m.numel(), int(m.sum())) for name, m in masks.items()}, (99, 0.6))


def step(model: nn.Module, optimizer: torch.optim.Optimizer, keeper: MaskKeeper, number: int) -> None:
    source = torch.Generator().manual_seed(number)
    inputs, labels = torch.randn(6, 1, 8, 8, generator=source), torch.randint(5, (6,), generator=source)
    optimizer.zero_grad()
    nn.functional.cross_entropy(model(inputs), labels).backward()  # type: ignore[no-untyped-call]
    hook = keeper.hook()
    assert hook.after_backward is not None
    hook.after_backward(number)
    optimizer.step()


def buffers(optimizer: torch.optim.Optimizer, weight: Tensor) -> list[Tensor]:
    return [value for value in optimizer.state[weight].values() if value.shape == weight.shape]


def assert_kept_at_zero(model: nn.Module, optimizer: torch.optim.Optimizer, masks: MaskSet) -> None:
    for name, mask in masks.items():
        weight = model.get_parameter(name)
        for tensor in (weight.detach(), *buffers(optimizer, weight)):
            assert torch.equal(tensor[~mask], torch.zeros(int((~mask).sum())))
        assert not bool(torch.signbit(weight[~mask]).any())


@pytest.mark.parametrize(("name", "options"), KINDS)
def test_masked_weights_and_their_momentum_are_zero_at_every_step(name: str, options: dict[str, Any]) -> None:
    model = network()
    optimizer = OPTIMIZERS[name].make(list(model.parameters()), 0.05, **options)
    keeper = MaskKeeper(model, masks_for(model, 0), optimizer)
    first = {name: model.get_parameter(name).detach().clone() for name in keeper.masks}
    for number in range(6):
        assert_kept_at_zero(model, optimizer, keeper.masks)
        step(model, optimizer, keeper, number)
    assert_kept_at_zero(model, optimizer, keeper.masks)
    assert all(not torch.equal(first[name], model.get_parameter(name)) for name in first)


def test_a_mask_set_later_also_clears_the_momentum_that_is_there() -> None:
    model = network()
    optimizer = OPTIMIZERS["sgd"].make(list(model.parameters()), 0.05)
    keeper = MaskKeeper(model, masks_for(model, 0), optimizer)
    for number in range(3):
        step(model, optimizer, keeper, number)
    keeper.set(masks_for(model, 1))
    assert_kept_at_zero(model, optimizer, keeper.masks)
    grown = keeper.masks["4.weight"] & ~masks_for(model, 0)["4.weight"]
    step(model, optimizer, keeper, 3)
    assert_kept_at_zero(model, optimizer, keeper.masks)
    assert bool((model.get_parameter("4.weight")[grown] != 0).any())


def test_the_state_of_a_keeper_brings_back_mask_counts_and_what_was_asked() -> None:
    model = network()
    optimizer = OPTIMIZERS["sgd"].make(list(model.parameters()), 0.05)
    keeper = MaskKeeper(model, masks_for(model, 0), optimizer)
    hook = keeper.hook()
    assert hook.state is not None
    assert hook.load is not None
    stored = {key: value.clone() for key, value in hook.state().items()}
    keeper.set(masks_for(model, 1))
    hook.load(stored)
    assert keeper.masks.sha256 == masks_for(model, 0).sha256
    assert keeper.masks.receipt() == masks_for(model, 0).receipt()
    assert masks_of(stored, list(keeper.masks)).receipt() == masks_for(model, 0).receipt()


def test_a_weight_that_took_no_part_in_a_step_keeps_its_place_among_the_others() -> None:
    model = network()
    optimizer = OPTIMIZERS["sgd"].make(list(model.parameters()), 0.05)
    keeper = MaskKeeper(model, masks_for(model, 0), optimizer)
    last = model.get_parameter("4.weight")
    last.grad = torch.ones_like(last)
    hook = keeper.hook()
    assert hook.after_backward is not None
    hook.after_backward(0)
    assert model.get_parameter("0.weight").grad is None
    assert torch.equal(last.grad, keeper.masks["4.weight"].float())
