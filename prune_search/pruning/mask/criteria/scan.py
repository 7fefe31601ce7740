"""A sensitivity scan: prunes each layer alone in growing shares and measures the loss."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prune_search.recipe.axes import CRITERIA
from prune_search.recipe.facts import Criterion
from prune_search.recipe.fields import Integer
from prune_search.recipe.registry import Option

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from prune_search.pruning.mask.scoring import Scores, Scoring
else:
    from prune_search.lazy import torch

# Where the loss does not rise, magnitude decides: so much of the largest rise is spread over each layer.
TELLS_APART = 1e-6


def _each_level(scoring: Scoring, levels: int) -> dict[str, list[float]]:
    """The slow definition: one list of numbers per layer and level, and interpolation by hand."""

    def loss() -> float:
        with torch.no_grad():
            values = [float(scoring.loss(scoring.model(x), y)) for x, y in scoring.batches()]
        return sum(values) / len(values)

    start = loss()
    rises: dict[str, list[float]] = {}
    orders: dict[str, list[int]] = {}
    for name, weight in scoring.weights.items():
        before = weight.detach().clone()
        sizes = before.abs().flatten().tolist()
        orders[name] = sorted(range(len(sizes)), key=lambda i: (sizes[i], i))
        rises[name] = [0.0]
        for level in range(1, levels + 1):
            flat = before.flatten().clone()
            for place in orders[name][: len(sizes) * level // levels]:
                flat[place] = 0.0
            weight.data.copy_(flat.reshape(weight.shape))
            rises[name].append(max(rises[name][-1], loss() - start))
        weight.data.copy_(before)
    largest = max(rise[-1] for rise in rises.values())
    found = {}
    for name, order in orders.items():
        scores = [0.0] * len(order)
        for rank, place in enumerate(order):
            share = (rank + 1) / len(order)
            level = min(int(share * levels), levels - 1)
            low, high = rises[name][level], rises[name][level + 1]
            scores[place] = low + (high - low) * (share * levels - level) + TELLS_APART * (largest or 1.0) * share
        found[name] = scores
    return found


def loss_rises(scoring: Scoring, levels: int) -> dict[str, list[float]]:
    """How the loss rises as each layer alone loses its smallest weights.

    Args:
        scoring: what is scored; the weights are put back.
        levels: the shares 1/levels, 2/levels … 1 of the layer's weights are removed (⌊n · level / levels⌋ of n).

    Returns:
        Per layer, 0 and then the loss at each level minus the loss before; never falling.
    """
    device = next(iter(scoring.weights.values())).device
    batches = scoring.batches()
    draws = torch.random.get_rng_state(), torch.cuda.get_rng_state(device) if device.type == "cuda" else None

    def loss() -> float:
        # Layers that draw, draw the same at every level.
        torch.random.set_rng_state(draws[0])
        if draws[1] is not None:
            torch.cuda.set_rng_state(draws[1], device)
        values = [float(scoring.loss(scoring.model(inputs), labels)) for inputs, labels in batches]
        return sum(values) / len(values)

    found: dict[str, list[float]] = {}
    with torch.no_grad():
        start = loss()
        for name, weight in scoring.weights.items():
            before = weight.detach().clone()
            order = _ascending(before)
            found[name] = [0.0]
            try:
                for level in range(1, levels + 1):
                    weight.view(-1)[order[: order.numel() * level // levels]] = 0.0
                    found[name].append(max(found[name][-1], loss() - start))
            finally:
                weight.copy_(before)
    return found


def _ascending(weight: Tensor) -> Tensor:
    """Places of the weights, the smallest first."""
    return torch.sort(weight.abs().flatten(), stable=True).indices


@CRITERIA.register(
    "sensitivity-scan",
    summary="increase of the loss at which a weight is removed when only its layer is pruned by magnitude",
    source="Han et al. 2015, 1506.02626, section 4; Li et al. 2017, 1608.08710, section 3.2 (scans layer by layer)",
    options={"levels": Option(Integer(1, 1000), 10, "shares of a layer to try")},
    facts=Criterion(reduce="sum", scales="left", needs_data=True, oracle=_each_level),
)
def sensitivity_scan(scoring: Scoring, levels: int) -> Scores:
    """The rise of the loss once this weight and all smaller ones of its layer are removed; float64, at least 0.

    Between the levels the rise is interpolated. So layers are compared by what their removal does to the loss, and
    weights within a layer by magnitude. It takes levels + 1 forward passes per layer; ``score.mode: eval`` is advised.
    """
    rises = loss_rises(scoring, levels)
    largest = max(rise[-1] for rise in rises.values()) or 1.0
    scores = {}
    for name, weight in scoring.weights.items():
        order = _ascending(weight.detach())
        share = torch.arange(1, order.numel() + 1, dtype=torch.float64, device=weight.device) / order.numel()
        level = (share * levels).floor().clamp(max=levels - 1)
        known = torch.tensor(rises[name], dtype=torch.float64, device=weight.device)
        low, high = known[level.long()], known[level.long() + 1]
        score = torch.empty_like(share)
        score[order] = low + (high - low) * (share * levels - level) + TELLS_APART * largest * share
        scores[name] = score.reshape(weight.shape)
    return scores
