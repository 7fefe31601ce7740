"""Runs the initializer of a recipe, with training inputs if it measures, and keeps what it reports."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from prune_search.recipe.axes import INITS

if TYPE_CHECKING:
    from torch import nn

    from prune_search.recipe.recipe import Named

# From a number to the inputs of that many training examples, fewer where there are fewer.
Inputs = Callable[[int], Any]


@dataclass(frozen=True)
class Initialized:
    """What an initializer found before it drew the weights.

    Attributes:
        figures: as plain data, for the result of a trial.
        variances: of the prior of each parameter that has one, by the parameter's name; above 0.
    """

    figures: Mapping[str, Any] = field(default_factory=dict)
    variances: Mapping[str, float] = field(default_factory=dict)


def initialize(named: Named, model: nn.Module, seed: int, inputs: Inputs, stream: str = "init") -> Initialized | None:
    """Draw the weights of a network, in place.

    Args:
        named: the initializer with its options.
        model: the network, on any device.
        seed: of the trial.
        inputs: of training examples, for an initializer that measures.
        stream: what the weights are drawn for; another stream gives other weights.

    Returns:
        What it found; None of one that finds nothing.
    """
    entry = named.entry(INITS)
    shown = {"inputs": inputs} if entry.facts.measures else {}
    found = entry.make(model, seed, stream=stream, **shown, **named.options)
    return found if isinstance(found, Initialized) else None
