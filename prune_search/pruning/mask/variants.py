"""Variants of find_mask: next level, scope-decided share, repeated scoring, controls."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from decimal import Decimal, localcontext

import torch
from torch import Tensor, nn

from prune_search.pruning.mask.controls import Chosen
from prune_search.pruning.mask.counts import PRECISION, keep_count
from prune_search.pruning.mask.finder import Finder, units_and_others
from prune_search.pruning.mask.layer_measurements import Measuring
from prune_search.pruning.mask.mask_set import MaskSet, UnitMasks, rounded
from prune_search.pruning.mask.restoring import left_as_it_was
from prune_search.pruning.mask.rule import MaskRule, ScoringData
from prune_search.pruning.mask.scopes.explicit import overall
from prune_search.pruning.mask.scoring import Scores
from prune_search.pruning.mask.selection import choose, normalized
from prune_search.pruning.mask.sharded_finder import control_of_shards, selection_of_shards
from prune_search.pruning.mask.units import LayerUnits, UnitSet, as_mask_set, units_of_masks
from prune_search.recipe import axes
from prune_search.recipe.problems import Problem, UserError
from prune_search.tasks.network import prunable_weights
from prune_search.tasks.shards import is_sharded


def next_mask(
    model: nn.Module, rule: MaskRule, share: Decimal, previous: MaskSet, scoring_data: ScoringData
) -> MaskSet:
    """The mask that keeps a share of what `previous` kept: pools count what is left, not what there was.

    Args:
        model: the network; it is left as it was.
        rule: what is scored, and how it is selected.
        share: kept share of the units that `previous` kept, 0 to 1.
        previous: the mask before.
        scoring_data: the data, and the draw.
    """
    finder = Finder(model, rule, scoring_data, previous, of_what_is_left=True)
    before = sum(int(mask.sum()) for mask in finder.candidates.values())
    chosen = finder.search(share, Decimal(1))
    total = sum(one.size for one in finder.sets)
    asked = keep_count(before, share, rule.rounding)
    return replace(finder.as_masks(chosen.kept, share), asked=(asked, 1 - asked / total))


def decided_share(model: nn.Module, rule: MaskRule, scoring_data: ScoringData) -> Decimal:
    """The kept share of all units that a scope comes to which decides it itself (sparsity ``{by: scope}``)."""
    finder = Finder(model, rule, scoring_data, None)
    kept = finder.decided()
    with localcontext() as context:
        context.prec = PRECISION
        return Decimal(kept) / Decimal(sum(one.size for one in finder.sets))


def selection(
    model: nn.Module, rule: MaskRule, share: Decimal | None, previous: MaskSet | None, scoring_data: ScoringData
) -> tuple[list[UnitSet], UnitMasks, Callable[[Mapping[str, Tensor]], UnitMasks]]:
    """The units, which of them may be kept, and how scores of them select: for whoever scores them again and again.

    Args:
        model: the network.
        rule: its scope is one that measures nothing.
        share: kept share of the units in scope; None: those above 0 are kept.
        previous: the mask of the round before.
        scoring_data: tells the output layer and the coupled channels.
    """
    if is_sharded(model):
        return selection_of_shards(model, rule, share, previous, scoring_data)
    finder = Finder(model, rule, scoring_data, previous)
    candidates = finder.candidates
    if share is None:
        return finder.sets, candidates, lambda scores: {n: (scores[n].cpu() > 0) & c for n, c in candidates.items()}

    def nothing() -> Measuring:
        raise UserError(
            [Problem("mask.scope", f"{rule.scope.name} measures losses and cannot be combined with a learned mask")]
        )

    pools = finder.pools(share, candidates, nothing)
    return finder.sets, candidates, lambda scores: choose(scores, candidates, pools)


@dataclass(frozen=True)
class CountedMasks:
    """Masks with given counts per layer, by scores that are taken once.

    Attributes:
        layers: that take part.
        measuring: what layers cost.
        at: from kept units per layer, by name, to the mask of the units, which the recipe's own search would find.
        applied: from that mask to one that can be put onto the network.
    """

    layers: list[LayerUnits]
    measuring: Measuring
    at: Callable[[Mapping[str, int]], UnitMasks]
    applied: Callable[[UnitMasks], MaskSet]


def counted_masks(model: nn.Module, rule: MaskRule, scoring_data: ScoringData) -> CountedMasks:
    """Masks for whoever tries counts of kept units again and again.

    Args:
        model: the network at w(k1), which is scored; it is left as it was.
        rule: what is scored; its scope takes counts that were found.
        scoring_data: the data, and the draw.
    """
    finder = Finder(model, rule, scoring_data, None)
    layers, candidates = finder.layers(finder.candidates), finder.candidates
    with left_as_it_was(model, rule.score.mode):
        dense = finder.dense()
        scores = normalized(rule.score.normalization, finder.score(dense, 1), candidates)
    measuring = finder.measuring(dense, scores, candidates)

    def at(kept: Mapping[str, int]) -> UnitMasks:
        finder.scoring_data = replace(scoring_data, found=kept)
        share = overall(layers, [kept[layer.name] for layer in layers])
        pools = finder.pools(share, candidates, lambda: measuring)
        return rounded(choose(scores, candidates, pools), scores, candidates, finder.grouping.multiple)

    return CountedMasks(layers, measuring, at, lambda kept: finder.as_masks(kept, None))


def budget_reached(
    model: nn.Module, rule: MaskRule, masks: MaskSet, scoring_data: ScoringData
) -> tuple[str, float, float] | None:
    """The kind of a budget, the share that was asked and what a mask comes to; None where there is no budget."""
    if rule.budget is None and not rule.scope.options.get("budget"):
        return None
    return Finder(model, rule, scoring_data, None).with_receipt(masks, None).budget


def with_control(model: nn.Module, masks: MaskSet, rule: MaskRule, scoring_data: ScoringData) -> MaskSet:
    """A static mask with the final counts of one that moved, drawn by the rule's control."""
    if rule.control is None:
        return masks
    if is_sharded(model):
        return control_of_shards(model, masks, rule, scoring_data)
    sets, others = units_and_others(model, rule, scoring_data)
    kept = units_of_masks(sets, masks.everything)
    everything = {name: torch.ones_like(mask) for name, mask in kept.items()}
    none = {name: torch.zeros(mask.numel(), dtype=torch.int32) for name, mask in kept.items()}
    runs = {one.name: one.run for one in sets}
    chosen = Chosen(kept, everything, none, dict(none), scoring_data.seed, runs)
    drawn = rule.control.entry(axes.CONTROLS).make(chosen, **rule.control.options)
    shapes = {name: parameter.shape for name, parameter in model.named_parameters()}
    found = as_mask_set(sets, drawn, prunable_weights(model), shapes).of_network(model, others)
    return replace(found, asked=masks.asked)


def scores_now(model: nn.Module, rule: MaskRule, masks: MaskSet, scoring_data: ScoringData) -> Scores:
    """The scores of a rule's criterion on the weights that `model` has, without finding a mask.

    Args:
        model: the network; it is left as it was.
        rule: what is scored.
        masks: the mask that it is under.
        scoring_data: the data, and the draw.

    Returns:
        Per set of units, [units], on the CPU; larger is kept.
    """
    finder = Finder(model, rule, scoring_data, masks)
    with left_as_it_was(model, rule.score.mode):
        return finder.score(finder.dense(), 1)
