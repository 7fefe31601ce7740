"""Which weights of a network a mask can prune, in units, and why it cannot prune the others."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from prune_search.pruning.mask.block_order import goes_by_blocks
from prune_search.pruning.mask.rule import MaskRule, ScoringData
from prune_search.pruning.mask.selection import excluded
from prune_search.pruning.mask.units import Grouping, UnitSet
from prune_search.recipe.problems import Problem, UserError
from prune_search.tasks.blocks import find_blocks
from prune_search.tasks.dataflow import flow
from prune_search.tasks.layers import SHOWN, prunable_weights
from prune_search.tasks.network import made_outputs

# Why weights take no part that someone meant to take none.
ASKED_OUT, MAKES_OUTPUTS = "left out by the scope", "it produces the network's outputs"
# What is done in training only, or with other inputs, may make outputs there.
NOT_USED = "a forward pass on the example does not use it"
OUTSIDE = "it is outside of the blocks,"


def units_in(model: nn.Module, rule: MaskRule, scoring_data: ScoringData) -> list[UnitSet]:
    """The units of a network that a rule's mask is made of, in module order.

    Raises:
        UserError: no layer takes part, or the network does not go with the granularity.
    """
    return units_and_others(model, rule, scoring_data)[0]


def units_and_others(
    model: nn.Module, rule: MaskRule, scoring_data: ScoringData
) -> tuple[list[UnitSet], dict[str, str]]:
    """The units of a network that a rule's mask is made of; and the prunable weights that take no part, and why.

    Raises:
        UserError: no layer takes part, or the network does not go with the granularity.
    """
    grouping = Grouping(rule.granularity)
    names = rule.scope.options.get("exclude", ())
    weights = prunable_weights(model)
    whole = not grouping.prunes_output_layer
    example = scoring_data.shown() if grouping.looks_at_inputs or names or whole else None
    left_out = dict.fromkeys(excluded(names, model, weights, example), ASKED_OUT)
    if goes_by_blocks(rule):
        blocks = find_blocks(model)
        outside = [name for name in weights if blocks.place_of(name) is None and name not in left_out]
        left_out.update(dict.fromkeys(outside, f"{OUTSIDE} {blocks.told}"))
    if whole:
        left_out.update(_ends(model, weights, scoring_data, example))
    sets = grouping.sets(model, left_out, example)
    others = grouping.others(model, sets, left_out, example)
    if not sets:
        reasons = "; ".join(f"{name}: {why}" for name, why in list(others.items())[:SHOWN])
        text = f"{rule.granularity.name}: this network has no layer that can be pruned this way ({reasons})"
        raise UserError([Problem("mask.granularity", text)])
    return sets, others


def _ends(
    model: nn.Module, weights: Mapping[str, nn.Parameter], scoring_data: ScoringData, example: Any
) -> dict[str, str]:
    """The weights that make the network's outputs, or may; without an example, the one that is taken for the last."""
    if example is None:
        return {} if scoring_data.output_layer is None else {scoring_data.output_layer: MAKES_OUTPUTS}
    seen = flow(model, example)
    idle = {name: NOT_USED for name in weights if name not in seen.order}
    return idle | dict.fromkeys(made_outputs(seen), MAKES_OUTPUTS)
