"""f1: finds a mask on the weights of step k1."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from decimal import Decimal
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from prune_search.pruning.mask.block_order import goes_by_blocks, layerwise_of, masks_by_blocks, outliers
from prune_search.pruning.mask.budget_search import mask_within
from prune_search.pruning.mask.compact_costs import CompactCosts
from prune_search.pruning.mask.controls import Chosen
from prune_search.pruning.mask.counts import keep_count
from prune_search.pruning.mask.group_scores import scored_by_batch, unit_scores
from prune_search.pruning.mask.layer_measurements import Measuring, Spending, layer_costs, shared_costs
from prune_search.pruning.mask.mask_set import MaskSet, Pool, UnclearError, UnitMasks, rounded, select
from prune_search.pruning.mask.reductions import PLAIN, reduction, reduction_name
from prune_search.pruning.mask.restoring import layers_seeded, left_as_it_was
from prune_search.pruning.mask.rule import MaskRule, ScoringData
from prune_search.pruning.mask.scoring import ERROR, Scores, Scoring, apart, scores_by
from prune_search.pruning.mask.selection import choose, normalized, pools_by, weight_named
from prune_search.pruning.mask.sharded_finder import find_mask_of_shards
from prune_search.pruning.mask.taking_part import ASKED_OUT as ASKED_OUT
from prune_search.pruning.mask.taking_part import MAKES_OUTPUTS as MAKES_OUTPUTS
from prune_search.pruning.mask.taking_part import OUTSIDE as OUTSIDE
from prune_search.pruning.mask.taking_part import units_and_others as units_and_others
from prune_search.pruning.mask.taking_part import units_in as units_in
from prune_search.pruning.mask.units import (
    SCALE,
    Grouping,
    LayerUnits,
    as_mask_set,
    in_order,
    masks_of_units,
    units_of_masks,
)
from prune_search.recipe import axes
from prune_search.recipe.budget import COSTS, kind_and_share
from prune_search.recipe.problems import Problem, UserError
from prune_search.tasks.blocks import Blocks, find_blocks
from prune_search.tasks.experts import close_routes
from prune_search.tasks.layers import other_names, prunable_weights
from prune_search.tasks.network import running_order
from prune_search.tasks.shards import check_whole, is_sharded
from prune_search.training.randomness import derive

Decided = tuple[Scores, UnitMasks]
Previous = tuple[MaskSet, Decimal] | None


def find_mask(
    model: nn.Module, rule: MaskRule, share: Decimal | None, previous: Previous, scoring_data: ScoringData
) -> MaskSet:
    """The mask on the weights that `model` has.

    Args:
        model: the network at w(k1); it is left as it was. One that is sharded: see `sharded_finder`.
        rule: what is scored, and how it is selected.
        share: kept share of the units in scope after this round, 0 to 1; None: the units whose learned score is
            above 0 are kept.
        previous: the mask of the round before and its kept share; only what it kept can be kept.
        scoring_data: the data, and the draw.

    Returns:
        Exactly as many units per pool as `share` says, ties by order (see `masks`).

    Raises:
        ScoreError: a score is not a number.
        UserError: no layer takes part, or the network does not go with the granularity or scope.
    """
    if is_sharded(model):
        return find_mask_of_shards(model, rule, share, previous, scoring_data)
    finder = Finder(model, rule, scoring_data, previous[0] if previous else None)
    if share is not None and goes_by_blocks(rule) and layerwise_of(rule) is not None:
        return masks_by_blocks(finder, share)
    if rule.criterion.entry(axes.CRITERIA).facts.keeps_all:
        return finder.as_masks(finder.candidates, Decimal(1))
    before = previous[1] if previous else Decimal(1)
    chosen = finder.above_zero() if share is None else finder.search(share, before)
    kept = rule.control.entry(axes.CONTROLS).make(chosen, **rule.control.options) if rule.control else chosen.kept
    return finder.as_masks(kept, share)


def _all_of(size: int, in_one_byte: bool) -> Tensor:
    """True for so many units; where memory counts they are all the same byte, which is only read."""
    return torch.ones(1, dtype=torch.bool).expand(size) if in_one_byte else torch.ones(size, dtype=torch.bool)


class Finder:
    """One search for a mask: the layers in units, and the iterations of scoring."""

    def __init__(
        self,
        model: nn.Module,
        rule: MaskRule,
        scoring_data: ScoringData,
        previous: MaskSet | None,
        of_what_is_left: bool = False,
    ) -> None:
        check_whole(model)
        self.model = model
        self.rule = rule
        self.scoring_data = scoring_data
        self.of_what_is_left = of_what_is_left
        self.first = previous is None
        self.grouping = Grouping(rule.granularity)
        self.weights = prunable_weights(model)
        self.parameters = dict(model.named_parameters())
        self.sets, self.others = units_and_others(model, rule, scoring_data)
        parts = [part for one in self.sets for part in one.parts]
        pruned = {part.parameter for part in parts if part.parameter in self.weights}
        scales = [part.parameter for part in parts if part.role == SCALE]
        # What is scored: the weights that units own, in module order, and the scales on the way of coupled channels.
        self.scored = [*(name for name in self.weights if name in pruned), *dict.fromkeys(scales)]
        self.memory: dict[str, Any] = {}
        # Where units are single weights in their order, a mask of units is one of weights.
        self.singles = {one.name for one in self.sets if in_order(one)}
        reduce = reduction_name(rule.criterion.entry(axes.CRITERIA).facts, rule.criterion.options)
        self.scored_singly = reduce in PLAIN and len(self.singles) == len(self.sets) and not self.grouping.coupled
        # A unit may be kept where the mask before kept any of it.
        self.candidates: UnitMasks = (
            units_of_masks(self.sets, previous.everything)
            if previous is not None
            else {one.name: _all_of(one.size, goes_by_blocks(rule)) for one in self.sets}
        )
        self._losses: dict[tuple[str, int], float] = {}
        self._outliers: dict[float, Mapping[str, float]] = {}

    def pools(self, share: Decimal | None, available: UnitMasks, measuring: Callable[[], Measuring]) -> list[Pool]:
        """Who competes with whom, and how many are kept."""
        return pools_by(self.rule, self.sets, self.layers(available), share, measuring, self.scoring_data.found)

    def layers(self, available: UnitMasks) -> list[LayerUnits]:
        """The layers that take part, with the units that may be kept."""
        counts = {one.name: int(np.count_nonzero(available[one.name].numpy())) for one in self.sets}
        return [
            LayerUnits(
                one.name,
                one.shape,
                counts[one.name] if self.of_what_is_left else one.size,
                counts[one.name],
                one.owners,
                self.blocks.place_of(one.name) if self.blocks.name else None,
            )
            for one in self.sets
        ]

    @cached_property
    def blocks(self) -> Blocks:
        """The blocks of the network."""
        return find_blocks(self.model)

    def search(self, share: Decimal, before: Decimal) -> Chosen:
        """The iterations of scoring, the mask tightened after each."""
        iterations, nested = self.rule.score.iterations, self.rule.score.nested
        current = self.candidates
        dropped_at = {name: torch.zeros(mask.numel(), dtype=torch.int32) for name, mask in current.items()}
        last: Scores = {}
        with left_as_it_was(self.model, self.rule.score.mode):
            dense = self.dense()
            for iteration in range(1, iterations + 1):
                allowed = current if nested else self.candidates
                step = self.rule.share_at(share, before, iteration)
                scores, current = self.decide(dense, iteration, allowed, step)
                current = rounded(current, scores, allowed, self.grouping.multiple)
                # How it came about is for controls only.
                for name, mask in current.items() if self.rule.control else ():
                    last[name] = torch.where(allowed[name], scores[name], last.get(name, scores[name]))
                    dropped_at[name][mask] = iteration + 1
                    dropped_at[name][allowed[name] & ~mask] = iteration
                if iteration < iterations:
                    self._mask_weights(dense, current)
        runs = {one.name: one.run for one in self.sets}
        return Chosen(current, self.candidates, dropped_at, last, self.scoring_data.seed, runs)

    def above_zero(self) -> Chosen:
        """The units whose learned score is above 0."""
        scores = self.score({}, 1)
        kept = {name: (scores[name] > 0) & mask for name, mask in self.candidates.items()}
        order = {name: mask.int() + 1 for name, mask in kept.items()}
        runs = {one.name: one.run for one in self.sets}
        return Chosen(kept, self.candidates, order, dict(scores), self.scoring_data.seed, runs)

    def decided(self) -> int:
        """How many units a scope keeps that decides it itself."""
        with left_as_it_was(self.model, self.rule.score.mode):
            dense = self.dense()

            if self.rule.budget:
                scores = normalized(self.rule.score.normalization, self.score(dense, 1), self.candidates)
                return sum(int(mask.sum()) for mask in self.within_budget(dense, scores, self.candidates).values())

            def measuring() -> Measuring:
                return self.measuring(dense, self.score(dense, 1), self.candidates)

            return sum(pool.kept for pool in self.pools(None, self.candidates, measuring))

    def dense(self) -> Scores:
        """The unmasked values of what is scored, which is to begin with nothing left of the network before.

        Which experts routers are closed to is in no state, so it is what the mask before says, not what the network
        was used for last. Without a mask before, it is the experts of which all is 0: of a network that was pruned.
        """
        with_experts = [one for one in self.sets if one.least]
        if with_experts and self.first:
            names = {part.parameter for one in with_experts for part in one.parts}
            close_routes(self.model, {name: self.parameters[name].detach() != 0 for name in names})
        elif with_experts:
            close_routes(self.model, masks_of_units(with_experts, self.candidates, self.shapes))
        return {name: self.parameters[name].detach().clone() for name in self.scored}

    def decide(self, dense: Scores, iteration: int, allowed: UnitMasks, share: Decimal) -> Decided:
        """The scores of an iteration, and what is kept; rough scores decide where they can."""
        measured = self.rule.scope.entry(axes.SCOPES).facts.measured
        scaled = self.rule.score.normalization.name != "none"
        plain = not (measured or scaled or self.rule.control or self.grouping.coupled or self.rule.budget)
        if plain and self.rule.criterion.entry(axes.CRITERIA).facts.rough:
            scores = self.score(dense, iteration, rough=True)
            pools = self.pools(share, allowed, lambda: self.measuring(dense, scores, allowed))
            if all(pool.rows == 1 and pool.least == 0 for pool in pools):
                with contextlib.suppress(UnclearError):
                    return scores, select(scores, allowed, pools, self.memory[ERROR])
        if self.rule.scope.options.get("order") == "sequential":
            return self._in_sequence(dense, iteration, allowed, share)
        scores = normalized(self.rule.score.normalization, self.score(dense, iteration), allowed)
        if self.rule.budget and iteration == self.rule.score.iterations:
            return scores, self.within_budget(dense, scores, allowed)
        pools = self.pools(share, allowed, lambda: self.measuring(dense, scores, allowed))
        return scores, choose(scores, allowed, pools)

    def within_budget(self, dense: Scores, scores: Scores, allowed: UnitMasks) -> UnitMasks:
        """The units to keep for which the smaller network costs what the rule's budget allows."""
        costs, limit = self.costs
        measured = functools.cache(lambda: self.measuring(dense, scores, allowed))

        def pools(share: Decimal) -> list[Pool]:
            return self.pools(share, allowed, measured)

        return mask_within(scores, allowed, pools, costs.total, limit * costs.whole, self.grouping.multiple)

    @cached_property
    def costs(self) -> tuple[CompactCosts, float]:
        """What is counted of smaller networks, and the share of it that may be kept."""
        assert self._budget is not None  # else there is nothing to meet
        example = self.scoring_data.shown()
        if example is None:
            path = "mask.sparsity.budget" if self.rule.budget else "mask.scope.budget"
            raise UserError([Problem(path, "needs an example input: pass batches")])
        counted = CompactCosts.of(self.model, self.sets, example, self._budget, self.grouping.coupled, self._cuts)
        return counted, kind_and_share(self._budget)[1]

    @cached_property
    def _cuts(self) -> bool:
        """Whether removed units can be cut out of the network."""
        facts = self.rule.granularity.entry(axes.GRANULARITIES).facts
        return self.grouping.coupled or bool(facts.removes_outputs)

    @cached_property
    def _budget(self) -> Mapping[str, Any] | None:
        """The mask's budget, or the scope's own where that is counted on the compact network too."""
        options = self.rule.scope.options
        if self.rule.budget or not (self._cuts and options.get("budget")):
            return self.rule.budget
        costs = options.get(COSTS)
        return {**options["budget"], **({COSTS: costs} if costs else {})}

    def _in_sequence(self, dense: Scores, iteration: int, allowed: UnitMasks, share: Decimal) -> Decided:
        """Layers are decided in running order, each scored with those before it pruned already."""
        example = self.scoring_data.shown()
        order = (running_order(self.model, example) if example is not None else []) or list(self.weights)
        place = {name: index for index, name in enumerate([*order, *self.weights])}
        pools = self.pools(share, allowed, lambda: self.measuring(dense, {}, allowed))
        current, scores = dict(allowed), {}
        for one in sorted(self.sets, key=lambda one: place[one.name]):
            self._mask_weights(dense, current)
            found = normalized(self.rule.score.normalization, self.score(dense, iteration), allowed)
            scores[one.name] = found[one.name]
            current.update(choose(found, allowed, [pool for pool in pools if one.name in pool.names]))
        return scores, current

    def score(self, dense: Scores, iteration: int, rough: bool = False) -> Scores:
        """Per set, the units' scores, on the CPU."""
        if (learned := self.scoring_data.learned) is not None:
            return {
                one.name: reduction(self.rule.criterion)(learned[one.name].reshape(-1, 1)).cpu() for one in self.sets
            }
        found = self.weight_scores(dense, iteration, rough)
        if self.scored_singly:
            (whole,) = found
            scores = {one.name: whole[one.name].detach().reshape(-1).cpu() for one in self.sets}
        else:
            reduced = unit_scores(self.sets, found, self.rule.criterion, self.rule.granularity)
            scores = {name: units.cpu() for name, units in reduced.items()}
        return self._agreed(scores)

    def _agreed(self, scores: Scores) -> Scores:
        """The first worker's scores, and its bound of their error."""
        workers = self.scoring_data.workers
        workers.same(list(scores.values()))
        if workers.several and ERROR in self.memory:
            self.memory[ERROR] = workers.agreed(lambda: self.memory[ERROR])
        return scores

    def weight_scores(self, dense: Scores, iteration: int, rough: bool = False) -> Iterator[Scores]:
        """The criterion's scores, shaped like the parameters: of everything at once, or batch by batch."""
        criterion = self.rule.criterion.entry(axes.CRITERIA)
        scales = criterion.facts.scales
        if self.grouping.coupled and scales == "only":
            yield {name: dense[name] for name in self.scored if name not in self.weights}
            return
        names = [name for name in self.scored if name in self.weights or scales == "scored"]
        scoring = Scoring(
            model=self.model,
            weights={name: self.parameters[name] for name in names},
            dense={name: dense[name] for name in names},
            batches=lambda: self.scoring_data.batches(iteration),
            loss=self.rule.loss(),
            seed=self.scoring_data.seed,
            words=(self.scoring_data.round_number, iteration),
            example=self.scoring_data.example,
            memory=self.memory,
            rough=rough,
            split=self.grouping.split,
            workers=self.scoring_data.workers,
        )
        words = ("score layers", *scoring.words)
        options = self.rule.criterion.options
        each_batch = scored_by_batch(self.rule.criterion, self.rule.granularity)
        with torch.enable_grad(), layers_seeded(self.model, derive(self.scoring_data.seed, *words)):
            for part in apart(scoring, each_batch):
                yield scores_by(criterion.name, criterion.make(part, **options), part)

    def measuring(self, dense: Scores, scores: Scores, allowed: UnitMasks) -> Measuring:
        """What a scope may measure: the loss with one layer pruned, and what layers cost."""

        def loss(name: str, count: int) -> float:
            if (name, count) not in self._losses:
                only = select(scores, allowed, [Pool((name,), count)])
                self._mask_weights(dense, {**self.candidates, **only})
                self._losses[name, count] = self.scoring_data.workers.agreed(self._loss)
                self._mask_weights(dense, self.candidates)
            return self._losses[name, count]

        def costs(given: str | Mapping[str, float]) -> Mapping[str, float]:
            if isinstance(given, str):
                example = self.scoring_data.shown()
                if example is None:
                    text = f"{given} needs an example input: pass batches"
                    raise UserError([Problem("mask.scope.budget", text)])
                # Times differ between workers.
                return self.scoring_data.workers.agreed(lambda: layer_costs(self.model, example, given))
            aliases = other_names(self.model)
            return {weight_named(name, self.weights, "mask.scope.costs", aliases): one for name, one in given.items()}

        return Measuring(
            loss,
            lambda kind: shared_costs(self.sets, costs(kind)),
            lambda given: shared_costs(self.sets, costs(given)),
            lambda given: self._spending(given, costs, scores, allowed),
            self.outliers,
        )

    def _spending(
        self,
        given: str | Mapping[str, float],
        costs: Callable[[str | Mapping[str, float]], Mapping[str, float]],
        scores: Scores,
        allowed: UnitMasks,
    ) -> Spending:
        """What counts of kept units cost: in the compact network, where removed units can be cut out."""
        if not self._cuts:
            sizes = {one.name: one.size for one in self.sets}
            return Spending.in_proportion(shared_costs(self.sets, costs(given)), sizes)
        counted, _ = self.costs
        units: dict[tuple[str, int], Tensor] = {}

        def total(kept: Mapping[str, int]) -> float:
            for name, count in kept.items():
                if (name, count) not in units:
                    found = select(scores, allowed, [Pool((name,), count)])
                    units[name, count] = rounded(found, scores, allowed, self.grouping.multiple)[name]
            return counted.total({name: units[name, count] for name, count in kept.items()})

        return Spending(counted.whole, total)

    def outliers(self, threshold: float) -> Mapping[str, float]:
        """See `block_order.outliers`; measured once, before anything is removed."""
        names = [one.name for one in self.sets]
        if threshold not in self._outliers:
            self._outliers[threshold] = outliers(self.model, self.blocks, names, self.scoring_data, threshold)
        return self._outliers[threshold]

    def _loss(self) -> float:
        batches, loss = self.scoring_data.batches(1), self.rule.loss()
        words = ("score layers", self.scoring_data.round_number, 1)
        with torch.no_grad(), layers_seeded(self.model, derive(self.scoring_data.seed, *words)):
            found = [float(loss(self.model(inputs), labels)) for inputs, labels in batches]
        if not found:
            raise UserError([Problem("mask.scope", f"{self.rule.scope.name} measures a loss and needs batches")])
        return sum(found) / len(found)

    def _mask_weights(self, dense: Scores, current: UnitMasks) -> None:
        # Biases and normalization stay meanwhile: with a scale of 0 no removed weight would have a gradient.
        several = [one for one in self.sets if one.name not in self.singles]
        masks = masks_of_units(several, current, self.shapes) if several else {}
        masks.update({name: current[name].reshape(self.weights[name].shape) for name in self.singles})
        with torch.no_grad():
            for name in self.scored:
                if name in self.weights:
                    # Three times as fast as torch.where; a 0 that is -0 here is in no mask and in no result.
                    kept = masks[name].to(dense[name].device).view(torch.uint8)
                    torch.mul(dense[name], kept, out=self.weights[name])
        if any(one.least for one in several):
            # What is scored next is the network that does not route to removed experts any more.
            close_routes(self.model, masks)

    @property
    def shapes(self) -> dict[str, torch.Size]:
        return {name: parameter.shape for name, parameter in self.parameters.items()}

    def as_masks(self, kept: UnitMasks, share: Decimal | None) -> MaskSet:
        """The mask in weights, with what was asked (of a learned share: what was reached)."""
        return self.with_receipt(as_mask_set(self.sets, kept, self.weights, self.shapes), share)

    def with_receipt(self, masks: MaskSet, share: Decimal | None) -> MaskSet:
        """A mask with what is known of the network, and what was asked (of a learned share: what was reached)."""
        whole = masks.of_network(self.model, self.others)
        if self._budget:
            costs, limit = self.costs
            reached = costs.total(units_of_masks(self.sets, masks.everything)) / costs.whole
            whole = replace(whole, budget=(kind_and_share(self._budget)[0], limit, reached))
        if goes_by_blocks(self.rule):
            whole = replace(whole, blocks=self.blocks.told)
        if share is None:
            return whole
        count = keep_count(sum(one.size for one in self.sets), share, self.rule.rounding)
        return replace(whole, asked=(count, float(1 - share)))
