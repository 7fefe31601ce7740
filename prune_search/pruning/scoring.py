"""What a criterion sees: the network at the masked weights, the unmasked weights, and the data it scores on."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn
else:
    from prune_search.lazy import torch

Scores = dict[str, "Tensor"]
Batches = Sequence[tuple["Tensor", "Tensor"]]


@dataclass(frozen=True)
class Scoring:
    """The input of a criterion.

    Attributes:
        model: the network; its prunable weights are w ⊙ c for the mask c of the iteration before.
        weights: the prunable weight parameters by name, in module order.
        dense: the same weights unmasked, w(k1).
        batches: the (inputs, labels) that are scored on.
        loss: from (logits, labels) to a scalar.
        seed: of the trial.
        words: what tells this draw from others: the round, the iteration.
    """

    model: nn.Module
    weights: Mapping[str, nn.Parameter]
    dense: Mapping[str, Tensor]
    batches: Callable[[], Batches]
    loss: Callable[[Tensor, Tensor], Tensor]
    seed: int
    words: tuple[str | int, ...]


def gradients(scoring: Scoring) -> Scores:
    """The loss gradient of every prunable weight, the mean over the batches, at the masked weights.

    The gradient is that of w ⊙ c itself, so that removed weights have one too.
    """
    batches = scoring.batches()
    names, parameters = list(scoring.weights), list(scoring.weights.values())
    sums = [torch.zeros_like(parameter) for parameter in parameters]
    for inputs, labels in batches:
        loss = scoring.loss(scoring.model(inputs), labels)
        found = torch.autograd.grad(loss, parameters, allow_unused=True)
        for total, gradient in zip(sums, found, strict=True):
            if gradient is not None:
                total += gradient.detach()
    return {name: total / len(batches) for name, total in zip(names, sums, strict=True)}
