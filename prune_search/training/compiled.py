"""torch.compile for training passes only: scoring and measuring run the network uncompiled."""

from __future__ import annotations

import contextlib
import operator
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import torch
from torch import Tensor, nn

from prune_search.tasks.blocks import repeated_modules
from prune_search.training.compiler_import import importing_compiler

if TYPE_CHECKING:
    from prune_search.training.accumulation import Gradients
    from prune_search.training.loop import Feed, Network

T = TypeVar("T")


def compiled(gradients: Gradients, by_blocks: bool = False) -> Gradients:
    """The same gradients but for rounding, by compiled code. The first step takes the time to compile it.

    Args:
        gradients: those of a step (see `loop.Network`).
        by_blocks: whether each repeated block is compiled by itself, as what is computed again has to be.
    """

    def made(model: nn.Module) -> list[tuple[nn.Module, Callable[..., Any]]]:
        with importing_compiler():
            parts = repeated_modules(model) if by_blocks else [model]
            return [(part, torch.compile(part.forward)) for part in parts]

    known = PerNetwork(made)

    def passed(network: Network, feed: Feed, number: int) -> Tensor:
        modules = known.of(network.model)
        with running([module for module, _ in modules], [call for _, call in modules]):
            return gradients(network, feed, number)

    return passed


@dataclass
class PerNetwork(Generic[T]):
    """What was made of the network that was looked at last, as long as it has the modules that it had.

    Attributes:
        make: makes it anew.
    """

    make: Callable[[nn.Module], T]
    _modules: list[nn.Module] = field(default_factory=list)
    _made: T | None = None

    def of(self, model: nn.Module) -> T:
        """What was made of a network."""
        modules = list(model.modules())
        same = len(modules) == len(self._modules)
        if self._made is None or not same or any(map(operator.is_not, modules, self._modules)):
            self._modules, self._made = modules, self.make(model)
        return self._made


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
