"""How a transform or a learning criterion trains."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import nn

    from prune_search.recipe.recipe import Named
    from prune_search.training.loop import Hook


@dataclass(frozen=True)
class Phase:
    """How a transform, or a criterion that learns, trains.

    Attributes:
        total: steps, at most.
        optimizer: the registered optimizer.
        rate: learning rate by step of the phase.
        hooks: what it does on the way.
        learned: what is trained in place of the network's parameters, by name; empty: those.
    """

    total: int
    optimizer: Named
    rate: Callable[[int], float]
    hooks: Callable[[], Sequence[Hook]]
    learned: Mapping[str, nn.Parameter] = field(default_factory=dict)
