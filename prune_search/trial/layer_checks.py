"""Refuses, before training, to remove more layers than a network has, or layers that cannot be removed."""

from __future__ import annotations

from decimal import Decimal

from prune_search.pruning.mask.finder import find_mask, units_in
from prune_search.pruning.mask.rule import MaskRule
from prune_search.recipe import axes
from prune_search.recipe.problems import Problem, UserError
from prune_search.trial.scoring_data import scoring_data
from prune_search.trial.setup import TrialSetup


def check_layers(setup: TrialSetup) -> None:
    """See that as many layers can be removed as the recipe asks for, and by its transforms.

    Where the criterion looks at places only, the layers of all rounds are known; else their number is all that is.

    Raises:
        UserError: there are too few, or one of them cannot be removed.
    """
    mask, rounds = setup.recipe.mask, setup.recipe.rounds
    if mask.sparsity.layers is None:
        return
    rule, shown = MaskRule.of(setup.mask), scoring_data(setup, 1)
    sets = units_in(setup.model, rule, shown)
    wanted = mask.sparsity.layers * rounds
    if wanted > len(sets):
        asked = f"{mask.sparsity.layers} in each of {rounds} rounds"
        text = f"{asked} are more layers than the {len(sets)} that can be removed"
        raise UserError([Problem("mask.sparsity.layers", text)])
    if not mask.criterion.entry(axes.CRITERIA).facts.of_places or mask.control is not None:
        return
    found = find_mask(setup.model, rule, Decimal(len(sets) - wanted) / len(sets), None, shown)
    removed = [name for name, kept in found.kept.items() if kept == 0]
    for named in setup.recipe.transforms:
        check = named.entry(axes.TRANSFORMS).facts.check_network
        if check is not None:
            check(setup.model, setup.data.train.first(1), removed)
