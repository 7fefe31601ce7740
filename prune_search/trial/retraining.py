"""f3: the length of a retraining and how it is trained."""

from __future__ import annotations

import math
from collections.abc import Callable
from decimal import Decimal
from typing import Any

from prune_search.compact.flops import flops
from prune_search.pruning.mask.mask_set import MaskSet
from prune_search.pruning.mask.rule import MaskRule
from prune_search.pruning.retrain.context import DynamicsContext
from prune_search.pruning.retrain.low_rank import LowRank, linear_weights
from prune_search.pruning.retrain.mask_keeper import MaskKeeper
from prune_search.recipe import axes
from prune_search.recipe.clock import Lasting, lasting
from prune_search.recipe.training_options import Lora
from prune_search.training.loop import Course, Hook
from prune_search.trial.how_trained import hooks_of, optimizer_of
from prune_search.trial.scoring_data import scoring_data
from prune_search.trial.setup import TrialSetup


def retraining_of(setup: TrialSetup, k1: int, masks: MaskSet) -> Lasting:
    """How long the retraining lasts, and its rates, where that depends on the mask and on its place."""
    example = setup.data.train.first(1)
    pruned = flops(setup.model, example, masks)
    relief = flops(setup.model, example) / pruned if pruned else math.inf
    return lasting(setup.recipe, setup.timeline, k1, relief)


def retrain_course(
    setup: TrialSetup,
    masks: MaskSet,
    lasts: Lasting,
    moving: tuple[MaskRule, Decimal, int] | None = None,
    number: int = 1,
) -> Course:
    """How a retraining is trained.

    Args:
        setup: the recipe, the data and the network.
        masks: that it starts with.
        lasts: its steps, rates and data order.
        moving: the rule, the kept share at the end and the round of one that moves the mask; None: the mask stays.
        number: of the round.
    """
    line, retrain = setup.timeline, setup.recipe.retrain
    options = setup.recipe.retrain_options
    named = setup.recipe.optimizer if retrain is None else retrain.optimizer
    low = None
    if retrain is not None and retrain.lora is not None:
        low = low_rank_of(setup, retrain.lora, number, lambda: keeper.masks)
    optimizer = optimizer_of(setup, named, options, "retrain", number, owners=None if low is None else low.owners())
    keeper = MaskKeeper(setup.model, masks, optimizer)
    hooks = [keeper.hook(), *([] if low is None else [low.hook()])]
    dynamics = None if retrain is None else retrain.dynamics
    if moving is not None and dynamics is not None:
        rule, share, number = moving

        def at(step: int) -> Any:
            return scoring_data(setup, number, "dynamics", step)

        given = DynamicsContext(setup.network, keeper, optimizer, rule, share, lasts.steps, line.epoch, at)
        # The dynamics comes first: it sees the gradients of masked weights.
        hooks.insert(0, dynamics.entry(axes.DYNAMICS).build(Hook, given, **dynamics.options))
        if setup.workers.several:
            hooks.append(_watching(setup, keeper))
    if lasts.steps < line.retrain_steps:
        hooks.append(Hook("length", finished=lambda step: step >= lasts.steps))
    settled = settles_at(setup, lasts) if moving is not None else 0
    further = {} if low is None else low.further
    before, trained = [*setup.penalties(), *hooks], list(further.values())
    every = hooks_of(setup, options, lasts.steps, before, settled, lambda: keeper.set(keeper.masks), trained)
    return Course(optimizer, setup.feed(), lasts.order_from, lasts.rate, every, further)


def low_rank_of(setup: TrialSetup, lora: Lora, number: int, masks: Callable[[], MaskSet]) -> LowRank:
    """The low-rank updates of a retraining.

    Args:
        setup: the recipe, the data and the network.
        lora: what the recipe says of them.
        number: of the round.
        masks: gives the mask that holds now.

    Raises:
        UserError: the network has no linear layer that a target names.
    """
    weights = linear_weights(setup.model, lora.targets, setup.output_layer)
    return LowRank(setup.model, weights, lora.rank, lora.alpha, masks, (setup.recipe.seed, number))


def check_low_rank(setup: TrialSetup) -> None:
    """See, before anything is trained, that the network has the layers that ``retrain.lora`` names.

    Raises:
        UserError: it has not.
    """
    retrain = setup.recipe.retrain
    if retrain is not None and retrain.lora is not None:
        linear_weights(setup.model, retrain.lora.targets, setup.output_layer)


def _watching(setup: TrialSetup, keeper: MaskKeeper) -> Hook:
    """Sees that a mask is the same on all workers whenever it has moved."""
    last = [keeper.masks]

    def look(step: int) -> None:
        if keeper.masks is not last[0]:
            last[0] = setup.alike(keeper.masks)

    return Hook("workers", after_step=look)


def settles_at(setup: TrialSetup, lasts: Lasting) -> int:
    """The step of a retraining from which its mask has the asked sparsity."""
    retrain = setup.recipe.retrain
    if retrain is None or retrain.dynamics is None:
        return 0
    dynamics = retrain.dynamics
    settles = dynamics.entry(axes.DYNAMICS).facts.settles
    return int(settles(lasts.steps, setup.timeline.epoch, **dynamics.options))
