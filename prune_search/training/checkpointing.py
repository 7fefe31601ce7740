"""Activation checkpointing: activations within a network's blocks are recomputed in the backward pass.

Between the two passes only what goes into a block is kept. A step takes one forward pass of the blocks more, and comes
to the same gradients: layers like dropout draw the same again, and running statistics are taken once.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from prune_search.tasks.blocks import repeated_modules
from prune_search.training.compiled import PerNetwork, running

if TYPE_CHECKING:
    from prune_search.training.accumulation import Gradients
    from prune_search.training.loop import Feed, Network


def checkpointed(gradients: Gradients) -> Gradients:
    """The same gradients, with less memory.

    Args:
        gradients: those of a step (see `loop.Network`).

    Source:
        Chen, Xu, Zhang, Guestrin 2016, Training Deep Nets with Sublinear Memory Cost, 1604.06174, section 4.
    """
    known = PerNetwork(repeated_modules)

    def passed(network: Network, feed: Feed, number: int) -> Tensor:
        with recomputed(known.of(network.model)):
            return gradients(network, feed, number)

    return passed


@contextlib.contextmanager
def recomputed(blocks: list[nn.Module]) -> Iterator[None]:
    """What blocks compute within, where gradients are recorded, is forgotten and computed again when it is needed.

    Args:
        blocks: modules of which none is within another.
    """
    with running(blocks, [functools.partial(_forgetting, block, block.forward) for block in blocks]):
        yield


def _forgetting(block: nn.Module, forward: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    if not torch.is_grad_enabled():
        return forward(*args, **kwargs)

    def run(*given: Any) -> Any:
        return forward(*given, **kwargs)

    return checkpoint(run, *args, use_reentrant=False, context_fn=lambda: (contextlib.nullcontext(), _again(block)))


@contextlib.contextmanager
def _again(block: nn.Module) -> Iterator[None]:
    """What a second pass does to buffers, such as running statistics, is forgotten."""
    kept = [(module, dict(module._buffers)) for module in block.modules() if module._buffers]
    for module, buffers in kept:
        for name, buffer in buffers.items():
            module._buffers[name] = None if buffer is None else buffer.clone()
    try:
        yield
    finally:
        for module, buffers in kept:
            module._buffers.update(buffers)
