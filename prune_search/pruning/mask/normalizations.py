"""Normalizations: how scores are scaled within each layer before layers are compared.

They change nothing within a layer. Where layers do not compete (scope uniform, er, erk) they change nothing at all.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from prune_search.recipe.axes import NORMALIZATIONS

if TYPE_CHECKING:
    import torch
    from torch import Tensor
else:
    from prune_search.lazy import torch


def _over(scores: Tensor, size: Tensor) -> Tensor:
    """The scores over a size; a layer of size 0 keeps its scores."""
    return scores / size if bool(size > 0) else scores


@NORMALIZATIONS.register("none", summary="no normalization")
def none(scores: Tensor) -> Tensor:
    """The scores of a layer's units that may be kept, [units]."""
    return scores


@NORMALIZATIONS.register("sum", summary="divided by the sum of the layer's absolute scores")
def sum_(scores: Tensor) -> Tensor:
    """s / Σ|s|, [units]."""
    return _over(scores, scores.abs().sum())


@NORMALIZATIONS.register("mean", summary="divided by the mean of the layer's absolute scores")
def mean(scores: Tensor) -> Tensor:
    """s / mean|s|, [units]."""
    return _over(scores, scores.abs().mean())


@NORMALIZATIONS.register("max", summary="divided by the layer's largest absolute score")
def max_(scores: Tensor) -> Tensor:
    """s / max|s|, [units]."""
    return _over(scores, scores.abs().amax())


@NORMALIZATIONS.register(
    "l2",
    summary="divided by the Euclidean norm of the layer's scores",
    source="Molchanov et al. 2017, Pruning Convolutional Neural Networks for Resource Efficient Inference, 1611.06440",
)
def l2(scores: Tensor) -> Tensor:
    """s / ‖s‖₂, [units]."""
    return _over(scores, torch.linalg.vector_norm(scores))


@NORMALIZATIONS.register("standard", summary="minus the layer's mean score, divided by the standard deviation")
def standard(scores: Tensor) -> Tensor:
    """(s - mean) / standard deviation, [units]."""
    return _over(scores - scores.mean(), scores.std(correction=0))


@NORMALIZATIONS.register("rank", summary="the score's rank within its layer, from 0 (lowest) to 1")
def rank(scores: Tensor) -> Tensor:
    """Ranks over the number of units; of equal scores the first ranks higher, as it is kept first. [units]."""
    order = torch.sort(scores, descending=True, stable=True).indices
    found = torch.empty(scores.numel(), dtype=torch.float64, device=scores.device)
    found[order] = torch.arange(scores.numel() - 1, -1, -1, dtype=torch.float64, device=scores.device)
    return found / max(1, scores.numel() - 1)
