"""Activation checkpointing: the same gradients and statistics bit for bit, with less kept between the passes."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from prune_search.recipe.problems import UserError
from prune_search.tasks.blocks import repeated_modules
from prune_search.tasks.data import Split
from prune_search.training.accumulation import accumulated
from prune_search.training.checkpointing import checkpointed
from prune_search.training.loop import Feed, Network, pass_over
from prune_search.trial.run import run_trial
from prune_search.trial.setup import TrialSetup


class Block(nn.Module):
    """A residual block with all that must not happen twice: a running mean of any momentum, a count, a dropout."""

    def __init__(self, momentum: float | None) -> None:
        super().__init__()
        self.inner = nn.Sequential(nn.Linear(6, 32), nn.BatchNorm1d(32, momentum=momentum), nn.ReLU(), nn.Linear(32, 6))

    def forward(self, inputs: Tensor, *, scale: float) -> Tensor:
        found: Tensor = inputs + scale * nn.functional.dropout(self.inner(inputs), 0.3, self.training)
        return found


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(Block(momentum) for momentum in (0.1, None, 0.3))
        self.head = nn.Linear(6, 3)

    def forward(self, inputs: Tensor) -> Tensor:
        for block in self.blocks:
            inputs = block(inputs, scale=0.5)
        found: Tensor = self.head(inputs)
        return found


def network() -> Network:
    torch.manual_seed(0)
    return Network(Net(), torch.device("cpu"), contextlib.nullcontext, nn.functional.cross_entropy)


def kept(gradients: Callable[[Network, Feed, int], Tensor], net: Network, feed: Feed) -> tuple[Tensor, int]:
    """The loss, and how many numbers are kept from the forward pass to the backward pass."""
    count = 0

    def note(tensor: Tensor) -> Tensor:
        nonlocal count
        count += tensor.numel()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        loss = gradients(net, feed, 3)
    return loss, count


def test_gradients_statistics_and_draws_are_those_without_it_bit_for_bit() -> None:
    source = torch.Generator().manual_seed(1)
    split = Split(torch.randn(40, 6, generator=source), torch.randint(3, (40,), generator=source))
    feed = Feed(split, 10, 7)
    plain, forgetting = network(), network()
    wanted, much = kept(accumulated(pass_over, 2), plain, feed)
    found, little = kept(checkpointed(accumulated(pass_over, 2)), forgetting, feed)
    assert torch.equal(found, wanted)
    assert little < much / 2
    others = dict(forgetting.model.named_parameters())
    for name, parameter in plain.model.named_parameters():
        again = others[name].grad
        assert parameter.grad is not None
        assert again is not None
        assert torch.equal(parameter.grad, again), name
    for (name, one), (_, other) in zip(plain.model.named_buffers(), forgetting.model.named_buffers(), strict=True):
        assert torch.equal(one, other), name
    assert all("forward" not in vars(block) for block in repeated_modules(forgetting.model))


def test_a_trial_ends_with_the_same_weights_under_another_key(
    setup_of: Callable[[Mapping[str, Any]], TrialSetup],
) -> None:
    task = {"model": {"name": "resnet-20", "width": 4}, "data": "digits"}
    train = {"steps": "2it", "batch": 20}
    plain = setup_of({"preset": "snip", "task": task, "train": train})
    written = {**train, "activation_checkpointing": True}
    forgetting = setup_of({"preset": "snip", "task": task, "train": written})
    assert plain.key != forgetting.key
    assert plain.root() != forgetting.root()
    assert (
        setup_of({"preset": "snip", "task": task, "train": {**written, "activation_checkpointing": False}}).key
        == plain.key
    )
    assert len(repeated_modules(forgetting.model)) == 9
    assert run_trial(plain, None).weights_sha256 == run_trial(forgetting, None).weights_sha256


def test_a_network_without_blocks_is_refused(setup_of: Callable[[Mapping[str, Any]], TrialSetup]) -> None:
    with pytest.raises(UserError, match=r"train\.activation_checkpointing: this network has no list of blocks"):
        setup_of({"preset": "snip", "train": {"activation_checkpointing": True}, "task": {"model": "lenet-300-100"}})
