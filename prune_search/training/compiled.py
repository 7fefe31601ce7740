"""torch.compile for the passes of training alone: whatever scores or measures a network runs it as it was written."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from prune_search.tasks.blocks import repeated_modules
from prune_search.training.compiler_import import importing_compiler

if TYPE_CHECKING:
    from prune_search.training.accumulation import Gradients
    from prune_search.training.loop import Feed, Network


def compiled(gradients: Gradients, by_blocks: bool = False) -> Gradients:
    """The same gradients but for rounding, by compiled code. The first step takes the time to compile it.

    Args:
        gradients: those of a step (see `loop.Network`).
        by_blocks: whether each repeated block is compiled by itself, as what is computed again has to be.
    """
    known = _Compiled(by_blocks)

    def passed(network: Network, feed: Feed, number: int) -> Tensor:
        modules = known.of(network.model)
        with running([module for module, _ in modules], [call for _, call in modules]):
            return gradients(network, feed, number)

    return passed


@dataclass
class _Compiled:
    """What is compiled of the network that was looked at last, as long as it has the modules that it had."""

    by_blocks: bool
    modules: list[nn.Module] = field(default_factory=list)
    calls: list[tuple[nn.Module, Callable[..., Any]]] = field(default_factory=list)

    def of(self, model: nn.Module) -> list[tuple[nn.Module, Callable[..., Any]]]:
        modules = list(model.modules())
        same = len(modules) == len(self.modules)
        if not same or any(one is not other for one, other in zip(modules, self.modules, strict=True)):
            self.modules = modules
            parts = repeated_modules(model) if self.by_blocks else [model]
            with importing_compiler():
                self.calls = [(part, torch.compile(part.forward)) for part in parts]
        return self.calls


@contextlib.contextmanager
def running(modules: Sequence[nn.Module], calls: Sequence[Callable[..., Any]]) -> Iterator[None]:
    """Modules run other code than their own within."""
    before = [vars(module).get("forward") for module in modules]
    for module, call in zip(modules, calls, strict=True):
        module.forward = call
    try:
        yield
    finally:
        for module, own in zip(modules, before, strict=True):
            if own is None:
                del module.forward
            else:
                module.forward = own
