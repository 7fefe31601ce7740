"""Network slimming: the scale of the batch norm after a layer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prune_search.recipe.axes import CRITERIA
from prune_search.recipe.facts import Criterion

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from prune_search.pruning.mask.scoring import Scores, Scoring
else:
    from prune_search.lazy import torch


def _each_scale(scoring: Scoring) -> dict[str, list[float]]:
    """The slow definition for a plain sequence of layers: the batch norm is the module that comes next."""
    layers = list(scoring.model.children())
    found = {}
    scales = [abs(v) for m in layers if isinstance(m, torch.nn.BatchNorm2d) for v in m.weight.tolist()]
    for name, weight in scoring.weights.items():
        index = next(i for i, m in enumerate(layers) if getattr(m, "weight", None) is weight)
        after = layers[index + 1] if index + 1 < len(layers) else None
        if isinstance(after, torch.nn.BatchNorm2d):
            found[name] = [abs(value) for value in after.weight.tolist()]
        else:
            found[name] = [max(scales) + 1.0] * weight.shape[0]
    return found


def scales_behind(scoring: Scoring) -> dict[str, Tensor]:
    """|γ| of the batch norm that takes in a layer's output, by the name of the layer's weight."""
    from prune_search.pruning.mask.channels import following_norms

    modules = dict(scoring.model.named_modules())
    found = {}
    for name, norms in following_norms(scoring.model, scoring.shown()).items():
        for norm in norms:
            batch_norm = isinstance(modules[norm], torch.nn.modules.batchnorm._BatchNorm)
            if name in scoring.weights and batch_norm and modules[norm]._parameters["weight"] is not None:
                found[name] = modules[norm].get_parameter("weight").detach().abs()
    return found


@CRITERIA.register(
    "batchnorm-scale",
    summary="|γ| of the batch norm after the layer; layers without one rank above all others",
    source="Liu et al. 2017, Learning Efficient Convolutional Networks through Network Slimming, 1708.06519",
    facts=Criterion(
        reduce="mean",
        granularities=("filter", "channel"),
        convolutional_default=True,
        needs_batchnorm=True,
        scales="only",
        oracle=_each_scale,
    ),
)
def batchnorm_scale(scoring: Scoring) -> Scores:
    """|γ| of each output channel on all of its weights, shaped like the weights; the group takes their mean.

    Raises:
        ScoreError: no layer has a batch norm with a scale behind it.
    """
    from prune_search.pruning.mask.mask_set import ScoreError

    scales = scales_behind(scoring)
    if not scales:
        raise ScoreError("no convolution or linear layer is followed by a batch norm with a scale")
    above = max(float(scale.max()) for scale in scales.values()) + 1.0
    scores = {}
    for name, weight in scoring.weights.items():
        scores[name] = torch.full_like(weight, above)
        if name in scales:
            # The output channels of a transposed convolution are in the second place.
            place = 0 if scales[name].numel() == weight.shape[0] else 1
            shape = [-1 if axis == place else 1 for axis in range(weight.dim())]
            scores[name] = scales[name].to(weight.dtype).reshape(shape).expand_as(weight).clone()
    return scores
