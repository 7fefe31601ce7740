"""Several batches per optimizer step: the mean loss of all of them, whatever gives the gradients of one."""

from __future__ import annotations

import contextlib
from dataclasses import replace

import torch
from torch import Tensor, nn

from prune_search.recipe.axes import OPTIMIZERS
from prune_search.tasks.data import Split
from prune_search.training.accumulation import accumulated, accumulating
from prune_search.training.loop import Course, Feed, Network, pass_over, train


def network() -> Network:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 3))
    return Network(model, torch.device("cpu"), contextlib.nullcontext, nn.functional.cross_entropy)


def feed(batch: int) -> Feed:
    source = torch.Generator().manual_seed(1)
    return Feed(Split(torch.randn(64, 6, generator=source), torch.randint(3, (64,), generator=source)), batch, 5)


def gradients(net: Network) -> list[Tensor]:
    return [parameter.grad.clone() for parameter in net.model.parameters() if parameter.grad is not None]


def test_four_batches_of_eight_give_the_gradients_of_one_of_thirty_two() -> None:
    for step in (0, 1, 3):
        parts, whole = accumulating(network(), 4), network()
        losses = parts.gradients(parts, feed(8), step), pass_over(whole, feed(32), step)
        torch.testing.assert_close(losses[0], losses[1].detach())
        for one, other in zip(gradients(parts), gradients(whole), strict=True):
            torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-7)


def test_gradients_are_added_to_those_that_are_there() -> None:
    once, twice = network(), network()
    take = accumulated(pass_over, 2)
    take(once, feed(8), 0)
    take(twice, feed(8), 0)
    take(twice, feed(8), 0)
    for one, two in zip(gradients(once), gradients(twice), strict=True):
        torch.testing.assert_close(two, 2 * one)


def test_one_batch_per_step_changes_nothing() -> None:
    net = network()
    assert accumulated(pass_over, 1) is pass_over
    assert accumulating(net, 1) is net


def test_a_training_sees_every_batch_once_in_order() -> None:
    seen: list[int] = []

    def watching(net: Network, batches: Feed, number: int) -> Tensor:
        seen.append(number)
        return pass_over(net, batches, number)

    net = replace(network(), gradients=accumulated(watching, 3))
    optimizer = OPTIMIZERS["sgd"].make(list(net.model.parameters()), 0.1)
    train(net, Course(optimizer, feed(8), 2, lambda step: 0.1), 0, 3)
    assert seen == list(range(6, 15))
