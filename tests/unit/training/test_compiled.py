"""Compiled training: the same gradients but for rounding, and a network that is what it was outside of a step."""

from __future__ import annotations

import contextlib
import itertools
import warnings

import pytest
import torch
from torch import nn

from prune_search.tasks.data import Split
from prune_search.training.checkpointing import checkpointed
from prune_search.training.compiled import PerNetwork, compiled
from prune_search.training.loop import Feed, Network, pass_over


def network() -> Network:
    torch.manual_seed(0)
    blocks = [nn.Sequential(nn.Linear(6, 6), nn.BatchNorm1d(6), nn.GELU()) for _ in range(2)]
    model = nn.Sequential(nn.Sequential(*blocks), nn.Linear(6, 3))
    return Network(model, torch.device("cpu"), contextlib.nullcontext, nn.functional.cross_entropy)


@pytest.mark.slow
@pytest.mark.parametrize("by_blocks", [False, True])
def test_gradients_are_those_of_the_network_as_it_was_written(by_blocks: bool) -> None:
    source = torch.Generator().manual_seed(1)
    feed = Feed(Split(torch.randn(40, 6, generator=source), torch.randint(3, (40,), generator=source)), 10, 7)
    gradients = compiled(checkpointed(pass_over) if by_blocks else pass_over, by_blocks)
    plain, fast = network(), network()
    seen: list[str] = []
    forwards = [module for module in fast.model.modules() if isinstance(module, nn.Sequential)]

    def looking(net: Network, stream: Feed, number: int) -> torch.Tensor:
        seen.extend(name for name, module in net.model.named_modules() if "forward" in vars(module))
        return pass_over(net, stream, number)

    with warnings.catch_warnings():
        # The compiler's own imports warn.
        warnings.simplefilter("ignore")
        for number in range(2):
            found, wanted = gradients(fast, feed, number), pass_over(plain, feed, number)
            torch.testing.assert_close(found, wanted)
        compiled(looking, by_blocks)(network(), feed, 0)
    assert seen == (["0.0", "0.1"] if by_blocks else [""])
    assert all("forward" not in vars(module) for module in forwards)
    for (name, one), (_, other) in zip(plain.model.named_buffers(), fast.model.named_buffers(), strict=True):
        torch.testing.assert_close(other, one, msg=name)
    for (name, first), (_, second) in zip(plain.model.named_parameters(), fast.model.named_parameters(), strict=True):
        torch.testing.assert_close(second.grad, first.grad, msg=name)


def test_what_was_made_of_a_network_stays_until_its_modules_are_others() -> None:
    numbers = itertools.count(1)
    known = PerNetwork(lambda model: next(numbers))
    net = nn.Sequential(nn.Linear(2, 2), nn.ReLU())
    assert (known.of(net), known.of(net)) == (1, 1)
    net[1] = nn.Tanh()
    assert known.of(net) == 2
    assert known.of(nn.Linear(2, 2)) == 3
