"""Several batches per optimizer step."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from prune_search.training.loop import Feed, Network

    Gradients = Callable[[Network, Feed, int], Tensor]


def accumulated(gradients: Gradients, count: int) -> Gradients:
    """The gradients of the mean loss of `count` batches, taken one batch at a time.

    Step n sees the batches n * count … n * count + count - 1 of the feed. So 4 batches of 8 are the same examples as
    one of 32, and give the same gradients but for rounding, unless a layer looks across the batch, as batch norm does.

    Args:
        gradients: those of one batch (see `loop.Network`).
        count: at least 1; 1 gives `gradients` itself.
    """
    if count == 1:
        return gradients

    def mean(network: Network, feed: Feed, number: int) -> Tensor:
        parameters = list(network.model.parameters())
        before = [parameter.grad for parameter in parameters]
        for parameter in parameters:
            parameter.grad = None
        # A sum of what is given back would keep its graph.
        losses = [gradients(network, feed, number * count + part).detach() for part in range(count)]
        there = [parameter.grad for parameter in parameters if parameter.grad is not None]
        if there:
            torch._foreach_div_(there, float(count))
        for parameter, gradient in zip(parameters, before, strict=True):
            if gradient is not None:
                parameter.grad = gradient if parameter.grad is None else gradient.add_(parameter.grad)
        return torch.stack(losses).mean()

    return mean


def accumulating(network: Network, count: int) -> Network:
    """The network with `count` batches per optimizer step; for 1, itself."""
    return network if count == 1 else replace(network, gradients=accumulated(network.gradients, count))
