"""Channels: an output unit of every layer that shares it, with the weights that read it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prune_search.pruning.mask.granularities.filter import MULTIPLE
from prune_search.recipe.axes import GRANULARITIES
from prune_search.recipe.facts import Granularity
from prune_search.recipe.fields import Word
from prune_search.recipe.registry import Option

if TYPE_CHECKING:
    from torch import Tensor


COUPLED = {
    "over": Option(Word(("mean", "sum", "max", "first")), "mean", "how the scores of the coupled layers are combined"),
    "scale": Option(Word(("mean", "sum", "max", "none")), "mean", "what the scores of a set are divided by"),
    "multiple": MULTIPLE,
    "convention": Option(
        Word(("papers", "torch-pruning")),
        "papers",
        "how a criterion's scores are joined within a layer: as its paper does, or as Torch-Pruning 1.6 by default",
        later=True,
    ),
}


@GRANULARITIES.register(
    "channel",
    summary="channels, coupled across the layers that share them, so they can be removed from residual networks",
    source="Fang et al. 2023, DepGraph, 2301.12900 (Torch-Pruning finds the layers)",
    options=COUPLED,
    facts=Granularity(
        output_layer=False,
        convolutional_default=True,
        structured=True,
        coupled=True,
        removes_outputs=True,
        by_channels=True,
    ),
)
def channel(
    tensor: Tensor, *, over: str = "mean", scale: str = "mean", multiple: int = 1, convention: str = "papers"
) -> Tensor:
    """The rows of a weight as [channels, weights of a channel]; coupled layers are joined by `units.coupled_sets`.

    A channel's score is the mean (or sum, maximum, or the first) over the coupled layers of their scores: of the rows
    that make it, of the columns that read it, and of the scale of a normalization on the way. It is divided by the
    mean (or sum, maximum) over the channels of the set, so that sets of other widths can compete. With the convention
    of Torch-Pruning sensitivities (snip, taylor) are Σ|…| of a layer, of the mean gradient and without normalizations,
    and fpgm's distances are those of squared weights.
    """
    del over, scale, multiple, convention
    return tensor.reshape(tensor.shape[0], -1)
