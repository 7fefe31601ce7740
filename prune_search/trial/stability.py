"""Finds when a mask becomes stable on trajectory 1 (early-bird tickets), checking it every epoch."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

from torch import Tensor

from prune_search.pruning.mask.finder import find_mask, units_in
from prune_search.pruning.mask.rule import MaskRule
from prune_search.pruning.mask.units import units_of_masks
from prune_search.recipe import axes
from prune_search.recipe.blocks import Stable
from prune_search.training.segment import Segment, load_model
from prune_search.trial.scoring_data import scoring_data
from prune_search.trial.setup import TrialSetup


def stable_place(setup: TrialSetup, stable: Stable, source: Segment, rule: MaskRule, share: Decimal) -> int:
    """The first step at which the masks have changed little for long enough, or the latest that is allowed.

    Every epoch (every window, where that is shorter) the rule's mask is found, and compared with the one before. The
    place is the first where all distances within the window are below the limit (You et al. 2020, 1909.11957,
    algorithm 1).

    Args:
        setup: the recipe, the data and the network.
        stable: what its ``mask.at`` asks for.
        source: trajectory 1, trained as far as is looked.
        rule: the mask block; its control plays no part.
        share: kept share of the units in scope.
    """
    line = setup.timeline
    distance, window = stable.metric, stable.window.resolve(line.total, line.epoch)
    every = max(1, min(line.epoch, window))
    count = max(1, window // every)
    plain, shown = replace(rule, control=None), scoring_data(setup, 1)
    distances: list[float] = []
    before: dict[str, Tensor] | None = None
    for step in range(every, line.k1 + 1, every):
        load_model(setup.model, source.at(step).tensors)
        found = setup.alike(find_mask(setup.model, plain, share, None, shown))
        units = units_of_masks(units_in(setup.model, plain, shown), found.everything)
        if before is not None:
            distances.append(distance.entry(axes.STABILITIES).make(before, units, **distance.options))
        before = units
        if len(distances) >= count and max(distances[-count:]) < stable.below:
            return step
    return line.k1
