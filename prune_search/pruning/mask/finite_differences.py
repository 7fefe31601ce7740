"""Finite differences in float64, for the slow reference definitions of criteria.

They share no code with the criteria: nothing is differentiated, every weight is moved in turn.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from prune_search.pruning.mask.scoring import Batches, Scoring
else:
    from prune_search.lazy import torch

EPSILON = 1e-5


def in_doubles(scoring: Scoring) -> tuple[nn.Module, Batches]:
    """The network, changed to float64 in place, and the batches in float64."""
    return scoring.model.double(), [(inputs.double(), labels) for inputs, labels in scoring.batches()]


@contextmanager
def moved(weight: Tensor, index: int, by: float) -> Iterator[None]:
    """Temporarily increase entry `index` of the flattened weight [...] by `by`."""
    flat = weight.detach().view(-1)
    before = flat[index].clone()
    flat[index] = before + by
    try:
        yield
    finally:
        flat[index] = before


def each_derivative(scoring: Scoring, value: Callable[[], Tensor], epsilon: float = EPSILON) -> dict[str, list[Tensor]]:
    """For every weight, (value(w + ε) - value(w - ε)) / 2ε, whatever the shape of the value."""
    found: dict[str, list[Tensor]] = {}
    with torch.no_grad():
        for name, weight in scoring.weights.items():
            found[name] = []
            for index in range(weight.numel()):
                with moved(weight, index, epsilon):
                    above = value()
                with moved(weight, index, -epsilon):
                    below = value()
                found[name].append((above - below) / (2 * epsilon))
    return found


def mean_loss(scoring: Scoring, model: nn.Module, batches: Batches) -> Tensor:
    """The mean of the batches' losses."""
    return torch.stack([scoring.loss(model(inputs), labels) for inputs, labels in batches]).mean()


def each_loss(scoring: Scoring, model: nn.Module, batches: Batches) -> Tensor:
    """The loss of every example, each in the forward pass of its batch."""
    losses = []
    for inputs, labels in batches:
        logits = model(inputs)
        losses += [scoring.loss(logits[i : i + 1], labels[i : i + 1]) for i in range(len(labels))]
    return torch.stack(losses)
