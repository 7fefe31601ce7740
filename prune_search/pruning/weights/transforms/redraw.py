"""Transforms without training: reinitialized weights, re-estimated BatchNorm statistics."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prune_search.recipe.axes import TRANSFORMS
from prune_search.recipe.facts import Transform
from prune_search.recipe.fields import Integer
from prune_search.recipe.registry import Option

if TYPE_CHECKING:
    from prune_search.pruning.weights.context import TransformContext


@TRANSFORMS.register(
    "reinit",
    summary="reinitializes all weights and buffers with train.init",
    source="Liu et al. 2019, 1810.05270; Frankle & Carbin 2019, 1803.03635 (control)",
    facts=Transform(redraws=True, sharded=True),
)
def reinit(setting: TransformContext) -> None:
    """Another draw than w(0), and another one in every round and at every place."""
    from prune_search.training.initialized import initialize

    stream = "/".join(map(str, ("reinit", *setting.words)))
    initialize(setting.init, setting.network.model, setting.seed, setting.inputs, stream)


@TRANSFORMS.register(
    "batchnorm-recalibrate",
    summary="re-estimates BatchNorm running statistics with the masked weights",
    source="Li et al. 2020, EagleEye, 2007.02491, section 3.3",
    options={"batches": Option(Integer(1, 100_000), 16, "training batches")},
    facts=Transform(needs_data=True),
)
def batchnorm_recalibrate(setting: TransformContext, *, batches: int) -> None:
    """The cumulative mean over the batches, with the mask applied first."""
    from prune_search.training.batchnorm import recalibrate

    if setting.masks is not None:
        setting.masks.apply(setting.network.model)
    feed = setting.feed()
    recalibrate(setting.network.model, (feed(number)[0] for number in range(batches)))
