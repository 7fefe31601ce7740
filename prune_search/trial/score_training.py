"""The segment in which a criterion learns the scores of units."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from decimal import Decimal

from torch import Tensor

from prune_search.pruning.mask.learning_context import LearningContext
from prune_search.pruning.mask.mask_set import MaskSet
from prune_search.pruning.mask.rule import MaskRule
from prune_search.pruning.mask.variants import selection
from prune_search.recipe import axes
from prune_search.training.loop import Course, Network
from prune_search.training.phase import Phase
from prune_search.training.segment import MODEL, load_model, model_tensors
from prune_search.trial.scoring_data import scoring_data
from prune_search.trial.setup import TrialSetup

Tensors = Mapping[str, Tensor]
PLACE = "mask.criterion"


def learning(
    setup: TrialSetup,
    rule: MaskRule,
    number: int,
    asked: Callable[[], tuple[Decimal | None, MaskSet | None]],
    state: Callable[[], Tensors],
) -> tuple[Callable[[], Tensors], Callable[[], Course], Network]:
    """Where such a segment begins, how it is trained, and the network with the loss that is learned by.

    Args:
        setup: the recipe, the data and the network.
        rule: its criterion trains.
        number: the round, from 1.
        asked: the asked kept share (None: learned) and the mask of the round before.
        state: w(k1).
    """
    criterion = rule.criterion
    entry = criterion.entry(axes.CRITERIA)

    def given() -> LearningContext:
        share, before = asked()
        sets, candidates, select = selection(setup.model, rule, share, before, scoring_data(setup, number))
        words, epoch = (PLACE, number), setup.timeline.epoch
        weights = dict(setup.model.named_parameters())
        shards = None if setup.sharded is None else {one.name: weights[one.name] for one in sets}
        return LearningContext(setup.network, sets, candidates, select, share, setup.recipe.seed, words, epoch, shards)

    def begin() -> Tensors:
        found = {key: value for key, value in state().items() if key.startswith(MODEL)}
        load_model(setup.model, found)
        if entry.facts.begin is None:
            return found
        entry.facts.begin(given(), **criterion.options)
        return model_tensors(setup.model)

    def course() -> Course:
        phase = entry.build(Phase, given(), **criterion.options)
        optimizer = setup.optimizer(phase.optimizer, phase.learned.values(), (PLACE, number))
        return Course(optimizer, setup.feed(PLACE, number), 0, phase.rate, phase.hooks(), phase.learned)

    return begin, course, replace(setup.network, loss=rule.loss())
