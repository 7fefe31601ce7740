"""Masks in a user's own loop: held by any optimizer, moved by a dynamics, prepared by a growing penalty."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from prune_search import Dynamics, GrowingPenalty, MaskHook, UserError, find_mask, sparsity_at
from prune_search.tasks.network import prunable_weights

X = torch.randn(12, 6, generator=torch.Generator().manual_seed(0))
Y = torch.arange(12) % 3


def network() -> nn.Module:
    torch.manual_seed(2)
    return nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3))


def backward(model: nn.Module) -> None:
    model.zero_grad()
    nn.functional.cross_entropy(model(X), Y).backward()  # type: ignore[no-untyped-call]


OPTIMIZERS: dict[str, Callable[[Any], torch.optim.Optimizer]] = {
    "sgd": lambda p: torch.optim.SGD(p, 0.1, momentum=0.9, weight_decay=0.01, nesterov=True),
    "adam": lambda p: torch.optim.Adam(p, 0.01, amsgrad=True),
    "adamw": lambda p: torch.optim.AdamW(p, 0.01),
    "rmsprop": lambda p: torch.optim.RMSprop(p, 0.01, momentum=0.9, centered=True),
    "rprop": lambda p: torch.optim.Rprop(p, 0.01),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_masked_weights_and_their_buffers_stay_at_zero_with_any_optimizer(name: str) -> None:
    model = network()
    optimizer = OPTIMIZERS[name](model.parameters())
    for _ in range(2):
        backward(model)
        optimizer.step()
    mask = find_mask(model, sparsity=0.5)
    hook = MaskHook(optimizer, model, mask)
    for _ in range(3):
        for key, weight in prunable_weights(model).items():
            assert bool((weight[~mask[key]] == 0).all())
            buffers = [b for b in optimizer.state[weight].values() if isinstance(b, Tensor) and b.shape == weight.shape]
            assert all(bool((buffer[~mask[key]] == 0).all()) for buffer in buffers)
        backward(model)
        optimizer.step()
    hook.remove()
    backward(model)
    optimizer.step()
    assert any(bool((weight[~mask[key]] != 0).any()) for key, weight in prunable_weights(model).items())


def test_gradual_dynamics_keep_the_count_of_their_path_at_every_event() -> None:
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), 0.05, momentum=0.9)
    dynamics = Dynamics("gradual", model, optimizer, sparsity=0.8, begin=2, end=10, every=4)
    asked = {2: 2, 6: 6, 10: 10}
    last = 0.0
    for i in range(13):
        backward(model)
        dynamics.step(i)
        last = sparsity_at("cubic", asked[i], final=0.8, begin=2, end=10) if i in asked else last
        kept = int((1 - last) * 72 + 0.5)
        assert sum(int(mask.sum()) for mask in dynamics.mask.values()) == kept
        assert sum(int((weight != 0).sum()) for weight in prunable_weights(model).values()) <= kept
    assert dynamics.mask.receipt().units_kept == int(0.2 * 72 + 0.5)


def test_dynamics_in_parts_of_a_training_need_its_length() -> None:
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), 0.05)
    with pytest.raises(UserError, match="steps"):
        Dynamics("gradual", model, optimizer, sparsity=0.8)
    with pytest.raises(UserError, match="did you mean 'gradual'"):
        Dynamics("gradul", model, optimizer, sparsity=0.8)
    with pytest.raises(UserError, match="every"):
        Dynamics("gradual", model, optimizer, sparsity=0.8, steps=10, every=0)
    dynamics = Dynamics("gradual", model, optimizer, sparsity=0.8, steps=100, every="5%")
    backward(model)
    dynamics.step(0)
    assert dynamics.mask.sparsity() == 0.0


def test_greg_1_is_the_plain_loop_of_its_paper() -> None:
    model, twin = network(), network()
    ours, plain = (torch.optim.SGD(m.parameters(), 0.05, momentum=0.9, weight_decay=5e-4) for m in (model, twin))
    penalty = GrowingPenalty(
        model, ours, sparsity=0.5, granularity="filter", step=0.1, every=3, ceiling=0.4, ratio=None, example_input=X
    )
    weight = twin.get_parameter("0.weight")
    gone = weight.detach().abs().sum(1).argsort()[:4]
    growing = torch.zeros_like(weight)
    steps = 0
    for i in range(40):
        if penalty.finished(i):
            break
        backward(model)
        penalty.step(i)
        if i % 3 == 0:
            growing[gone] = min(0.1 * (i // 3 + 1), 0.4)
        backward(twin)
        assert weight.grad is not None
        weight.grad += growing * weight.detach()
        plain.step()
        assert torch.allclose(penalty.penalty["0.weight"], growing)
        steps += 1
    assert steps == 12
    assert torch.allclose(model.get_parameter("0.weight"), weight, atol=1e-6)
    mask = penalty.prune()
    assert (~mask["0.weight"].any(1)).nonzero().flatten().tolist() == sorted(gone.tolist())
    assert bool((model.get_parameter("0.bias")[gone] == 0).all())
    assert bool(mask["2.weight"].all())


def test_greg_2_picks_after_a_penalty_has_risen_on_everything() -> None:
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), 0.05)
    penalty = GrowingPenalty(
        model,
        optimizer,
        sparsity=0.5,
        granularity="weight",
        step=0.1,
        every=1,
        ceiling=0.5,
        kept=-0.01,
        pick={"step": 0.05, "until": 0.1},
    )
    seen = []
    with pytest.raises(UserError, match="not finished"):
        penalty.prune()
    for i in range(10):
        if penalty.finished(i):
            break
        backward(model)
        penalty.step(i)
        values = penalty.penalty["0.weight"]
        seen.append((round(float(values.max()), 4), round(float(values.min()), 4)))
    assert seen == [(0.05, 0.05), (0.1, 0.1), (0.2, -0.01), (0.3, -0.01), (0.4, -0.01), (0.5, -0.01)]
    assert penalty.prune().sparsity() == 0.5


@pytest.mark.parametrize(("granularity", "every"), [("weight", 5), ("filter", 3), ("filter", 1)])
def test_greg_2_picks_in_the_step_in_which_the_penalty_is_reached(granularity: str, every: int) -> None:
    """As MingSun-Tse/Regularization-Pruning: reg_pruner.py, _greg_2, which runs before the step's backward pass."""
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), 0.2, momentum=0.9)
    pick = {"step": 0.125, "until": 0.5}
    penalty = GrowingPenalty(
        model, optimizer, sparsity=0.5, granularity=granularity, step=0.25, every=every, pick=pick, kept=-0.01
    )
    seen = []
    for i in range(5 * every):
        then = find_mask(model, "l1", 0.5, scope="uniform", granularity=granularity)
        backward(model)
        penalty.step(i)
        if i == 3 * every:
            assert penalty.mask is not None
            assert all(torch.equal(penalty.mask[name], then[name]) for name in then)
        assert (penalty.mask is None) == (i < 3 * every)
        values = penalty.penalty["0.weight"]
        seen.append((float(values.max()), round(float(values.min()), 3)))
    risen = [(0.125 * (k + 1), 0.125 * (k + 1)) for k in range(4)]
    assert seen == [value for value in [*risen, (0.75, -0.01)] for _ in range(every)]


def test_the_penalty_grows_on_what_a_given_mask_removes() -> None:
    model = network()
    mask = find_mask(model, "magnitude", 0.4, scope="erk")
    optimizer = torch.optim.SGD(model.parameters(), 0.05)
    penalty = GrowingPenalty(model, optimizer, mask=mask, granularity="weight", step=0.25, every=2, ceiling=0.5)
    for i in range(4):
        assert not penalty.finished(i)
        backward(model)
        penalty.step(i)
        for name, one in mask.items():
            wanted = torch.where(one, 0.0, 0.25 * (i // 2 + 1))
            assert torch.equal(penalty.penalty[name], wanted)
    assert penalty.finished(4)
    assert penalty.prune() is mask
    for more in ({"sparsity": 0.5}, {"pick": {"step": 0.1}}):
        with pytest.raises(UserError, match=f"mask: cannot be combined with {next(iter(more))}"):
            GrowingPenalty(model, optimizer, mask=mask, **more)
