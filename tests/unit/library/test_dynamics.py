"""Masks that move in a user's loop: the spoken options, the length of the training, the end."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from prune_search import Dynamics, UserError, find_mask, sparsity_at

X = torch.randn(8, 6, generator=torch.Generator().manual_seed(0))


def start(name: str = "gradual", **given: Any) -> tuple[nn.Module, Dynamics]:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 10), nn.ReLU(), nn.Linear(10, 4))
    optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)
    return model, Dynamics(name, model, optimizer, **{"sparsity": 0.8, **given})


def train(model: nn.Module, dynamics: Dynamics, steps: range) -> list[float]:
    """The sparsity after each step."""
    found = []
    for i in steps:
        dynamics.optimizer.zero_grad()
        model(X).square().mean().backward()
        dynamics.step(i)
        kept = torch.cat([mask.flatten() for mask in dynamics.mask.values()])
        found.append(1 - float(kept.float().mean()))
    return found


def test_begin_and_end_are_whole_steps_and_the_mask_follows_the_path_between_them() -> None:
    model, dynamics = start(begin=2, end=6, every=2)
    sparsities = train(model, dynamics, range(8))
    assert sparsities[0] == 0.0
    assert sparsities[4] == pytest.approx(sparsity_at("cubic", 4, 0, 0.8, 2, 6), abs=0.01)
    assert sparsities[6:] == pytest.approx([0.8, 0.8], abs=0.01)


def test_what_is_masked_is_zero_after_every_step() -> None:
    model, dynamics = start(begin=0, end=2, every=1)
    train(model, dynamics, range(4))
    weights = dict(model.named_parameters())
    assert all(bool((weights[name][~mask] == 0).all()) for name, mask in dynamics.finish().items())


def test_fractions_need_the_length_of_the_training() -> None:
    with pytest.raises(UserError, match="steps: is required"):
        start(begin=0, end="50%", every=1)
    model, dynamics = start(begin=0, end="50%", every=1, steps=8)
    assert train(model, dynamics, range(5))[4] == pytest.approx(0.8, abs=0.01)


def test_a_dynamics_of_constant_size_begins_with_the_mask_that_is_given_or_a_random_one() -> None:
    model, dynamics = start("set", every=2, end=4)
    size = sum(int(mask.sum()) for mask in dynamics.mask.values())
    assert size == round(0.2 * 100)
    given = find_mask(model, sparsity=0.5)
    _, other = start("set", every=2, end=4, sparsity=0.5, mask=given)
    assert all(torch.equal(other.mask[name], mask) for name, mask in given.items())


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("gradul", {}, "did you mean 'gradual'"),
        ("gradual", {"evry": 3}, "evry"),
        ("gradual", {"sparsity": None, "begin": 0, "end": 4}, "sparsity"),
    ],
)
def test_wrong_arguments_are_told_before_a_step(name: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        start(name, **options)


def test_a_forward_pass_after_the_end_moves_nothing() -> None:
    model, dynamics = start(begin=0, end=2, every=1)
    train(model, dynamics, range(3))
    final = {name: mask.clone() for name, mask in dynamics.finish().items()}
    out: Tensor = model(X)
    assert out.shape == (8, 4)
    assert all(torch.equal(dynamics.mask[name], mask) for name, mask in final.items())
