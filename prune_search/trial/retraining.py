"""f3: how long a retraining lasts, and how it is trained."""

from __future__ import annotations

import math
from decimal import Decimal
from typing import Any

from prune_search.compact.flops import flops
from prune_search.pruning.mask.mask_set import MaskSet
from prune_search.pruning.mask.rule import MaskRule
from prune_search.pruning.retrain.context import Moving
from prune_search.pruning.retrain.mask_keeper import MaskKeeper
from prune_search.recipe import axes
from prune_search.recipe.clock import Lasting, lasting
from prune_search.recipe.recipe import Named
from prune_search.training.loop import Course, Hook
from prune_search.trial.scoring_data import evidence
from prune_search.trial.setup import Bench


def retraining_of(bench: Bench, k1: int, masks: MaskSet) -> Lasting:
    """How long the retraining lasts, and its rates, where that depends on the mask and on its place."""
    example = bench.data.train.inputs[:1]
    pruned = flops(bench.model, example, masks)
    relief = flops(bench.model, example) / pruned if pruned else math.inf
    return lasting(bench.recipe, bench.timeline, k1, relief)


def retrain_course(
    bench: Bench, masks: MaskSet, lasts: Lasting, moving: tuple[MaskRule, Decimal, int] | None = None
) -> Course:
    """How a retraining is trained.

    Args:
        bench: the recipe, the data and the network.
        masks: that it starts with.
        lasts: its steps, rates and data order.
        moving: the rule, the kept share at the end and the round of one that moves the mask; None: the mask stays.
    """
    line, retrain = bench.timeline, bench.recipe.retrain
    named = Named.of(axes.OPTIMIZERS, retrain["optimizer"]) if retrain else bench.recipe.optimizer
    optimizer = bench.optimizer(named)
    keeper = MaskKeeper(bench.model, masks, optimizer)
    hooks = [keeper.hook()]
    if moving is not None and retrain is not None:
        dynamics = Named.of(axes.DYNAMICS, retrain["dynamics"])
        rule, share, number = moving

        def at(step: int) -> Any:
            return evidence(bench, number, "dynamics", step)

        given = Moving(bench.network, keeper, optimizer, rule, share, lasts.steps, line.epoch, at)
        # The dynamics comes first: it sees the gradients of masked weights.
        hooks.insert(0, dynamics.entry(axes.DYNAMICS).build(Hook, given, **dynamics.options))
    if lasts.steps < line.retrain_steps:
        hooks.append(Hook("length", finished=lambda step: step >= lasts.steps))
    return Course(optimizer, bench.feed(), lasts.order_from, lasts.rate, hooks)


def settles_at(bench: Bench, lasts: Lasting) -> int:
    """The step of a retraining that moves its mask from which the mask has the asked sparsity."""
    dynamics = Named.of(axes.DYNAMICS, (bench.recipe.retrain or {})["dynamics"])
    settles = dynamics.entry(axes.DYNAMICS).facts.settles
    return int(settles(lasts.steps, bench.timeline.epoch, **dynamics.options))
