"""f1 on a sharded network: each worker scores the rows that it holds, and no network is gathered anywhere.

The masks are those that `finder.find_mask` finds on the whole network, bit for bit where the scores are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Any

import torch
from torch import Tensor, nn

from prune_search.pruning.mask.controls import Chosen
from prune_search.pruning.mask.counts import keep_count
from prune_search.pruning.mask.layer_measurements import Measuring
from prune_search.pruning.mask.mask_set import MaskSet, UnitMasks, keep_all
from prune_search.pruning.mask.reductions import reduction
from prune_search.pruning.mask.restoring import layers_seeded, left_as_it_was
from prune_search.pruning.mask.rule import MaskRule, ScoringData
from prune_search.pruning.mask.scoring import Scores, Scoring, scores_by
from prune_search.pruning.mask.selection import ENDS, pools_by
from prune_search.pruning.mask.sharded_selection import Shard, choose_sharded
from prune_search.pruning.mask.taking_part import units_and_others
from prune_search.pruning.mask.units import Grouping, LayerUnits, UnitSet
from prune_search.recipe import axes
from prune_search.recipe.problems import Problem, UserError
from prune_search.recipe.sharding import mask_problems
from prune_search.tasks.blocks import find_blocks
from prune_search.tasks.layers import holders, kind_of, listed, prunable_weights
from prune_search.tasks.shards import divided_like, first_row, gathered, is_shard, part_of, resharded, sharded_like
from prune_search.tasks.workers import Workers
from prune_search.training.randomness import derive

# What such a network is called in messages.
SHARDED = "a sharded network"


def find_mask_of_shards(
    model: nn.Module,
    rule: MaskRule,
    share: Decimal | None,
    previous: tuple[MaskSet, Decimal] | None,
    scoring_data: ScoringData,
) -> MaskSet:
    """The mask on the weights that a sharded network has; all workers call it.

    Args:
        model: the network at w(k1), sharded by rows over all workers; it is left as it was.
        rule: what is scored, and how it is selected.
        share: kept share of the units in scope, 0 to 1.
        previous: the mask of the round before, of DTensors, and its kept share; only what it kept can be kept.
        scoring_data: the data: of each worker its own, equally many batches.

    Returns:
        The mask, of DTensors like the weights. Its counts are known already: asking for them asks no other worker.

    Raises:
        ScoreError: a score is not a number.
        UserError: the rule needs the whole network, or the network is not sharded by rows.
    """
    finder = _Finder.checked(model, rule, share, scoring_data)
    candidates = finder.candidates(None if previous is None else previous[0])
    assert share is not None  # it was checked
    if rule.criterion.entry(axes.CRITERIA).facts.keeps_all:
        return finder.as_masks(candidates, Decimal(1))
    kept = finder.search(candidates, share, previous[1] if previous else Decimal(1))
    return finder.as_masks(finder.controlled(kept), share)


def control_of_shards(model: nn.Module, masks: MaskSet, rule: MaskRule, scoring_data: ScoringData) -> MaskSet:
    """A mask with the final counts of one that moved, drawn by the rule's control; all workers call it.

    Args:
        model: the network, sharded by rows over all workers.
        masks: of DTensors, that have moved.
        rule: with the control.
        scoring_data: of this worker.

    Raises:
        UserError: the rule needs the whole network, or the network is not sharded by rows.
    """
    finder = _Finder.checked(model, rule, Decimal(1), scoring_data)
    drawn = finder.controlled(finder.candidates(masks))
    return replace(finder.as_masks(drawn, Decimal(1)), asked=masks.asked)


def selection_of_shards(
    model: nn.Module, rule: MaskRule, share: Decimal | None, previous: MaskSet | None, scoring_data: ScoringData
) -> tuple[list[UnitSet], UnitMasks, Callable[[Mapping[str, Tensor]], UnitMasks]]:
    """`variants.selection` of a sharded network: candidates, scores and what is kept are this worker's, [own].

    Args:
        model: the network, sharded by rows over all workers, which all call this and what it returns.
        rule: its scope is one that measures nothing.
        share: kept share of the units in scope.
        previous: the mask of the round before, of DTensors.
        scoring_data: of this worker.

    Raises:
        UserError: the rule needs the whole network, or the network is not sharded by rows.
    """
    finder = _Finder.checked(model, rule, share, scoring_data)
    candidates = finder.candidates(previous)
    pools = pools_by(rule, finder.sets, finder.layers(candidates), share, _nothing_measured)

    def select(scores: Mapping[str, Tensor]) -> UnitMasks:
        return choose_sharded(finder.shards(scores), candidates, pools, finder.workers)

    return finder.sets, candidates, select


def scores_of_shards(model: nn.Module, rule: MaskRule, scoring_data: ScoringData) -> dict[str, Shard]:
    """The scores of a rule's criterion on the weights that a sharded network has; all workers call it.

    Args:
        model: the network; it is left as it was.
        rule: what is scored.
        scoring_data: of this worker.

    Returns:
        Per weight that takes part, this worker's; larger is kept.

    Raises:
        UserError: the rule needs the whole network, or the network is not sharded by rows.
    """
    finder = _Finder.checked(model, rule, Decimal(1), scoring_data)
    with left_as_it_was(model, rule.score.mode):
        return finder.scores(finder.dense(), 1)


def _problems(model: nn.Module, rule: MaskRule) -> Iterator[Problem]:
    """Everything of a rule that cannot be done on shards."""
    yield from mask_problems(rule, SHARDED)
    if ends := [name for name in rule.scope.options.get("exclude", ()) if name in ENDS]:
        yield Problem("mask.scope.exclude", f"{ends[0]} does not go with {SHARDED}: name the layer")
    if rule.budget is not None:
        yield Problem("mask.sparsity.budget", f"does not go with {SHARDED}: it is met by the whole network")
    granularity = rule.granularity.entry(axes.GRANULARITIES).facts
    if granularity.by_channels and (turned := _turned(model)):
        text = f"{rule.granularity.name} runs along the rows of {listed(turned)}, which are sharded: exclude them"
        excluded = {name.removesuffix(".weight") for name in rule.scope.options.get("exclude", ())}
        if not {name.removesuffix(".weight") for name in turned} <= excluded:
            yield Problem("mask.granularity", text)


def _turned(model: nn.Module) -> list[str]:
    """The weights that are stored with their inputs first."""
    found = []
    for name, ((_, module), *_) in holders(model).items():
        kind = kind_of(module)
        if getattr(module, "transposed", False) or (kind is not None and kind.turned):
            found.append(name)
    return found


def workers_of(weights: Mapping[str, Tensor]) -> Workers:
    """The workers that the weights of a network lie on, as this one of them sees them.

    Raises:
        UserError: not all of them lie in rows on all workers of torch's default process group.
    """
    dist = torch.distributed
    if plain := [name for name, weight in weights.items() if not is_shard(weight)]:
        text = f"{listed(plain)}: not sharded, while other weights are; call fully_shard on the whole network too"
        raise UserError([Problem("model", text)])
    size = dist.get_world_size()
    if odd := [name for name, weight in weights.items() if not _in_rows(weight, size)]:
        text = f"{listed(odd)}: must be sharded by rows (dimension 0) over all {size} workers, and in no other way"
        raise UserError([Problem("model", text)])
    return Workers(dist.get_rank(), size)


def _in_rows(weight: Tensor, size: int) -> bool:
    """Whether each worker holds its chunk of the rows, in the order of ranks."""
    if not is_shard(weight):
        return False
    mesh, (placement, *others) = weight.device_mesh, weight.placements
    # Strided shards (with tensor parallelism, say) are of another class.
    return not others and type(placement).__name__ == "Shard" and placement.is_shard(0) and mesh.size() == size


@dataclass(frozen=True, eq=False)
class _Finder:
    """One search for a mask on shards.

    Attributes:
        model: the network.
        rule: by which it is found.
        scoring_data: of this worker.
        weights: all prunable weights.
        workers: that hold them.
        sets: the units: single weights, whatever their order within a row.
        others: weights that take no part, and why.
        memory: what a criterion keeps from one iteration to the next.
    """

    model: nn.Module
    rule: MaskRule
    scoring_data: ScoringData
    weights: Mapping[str, nn.Parameter]
    workers: Workers
    sets: list[UnitSet]
    others: Mapping[str, str]
    memory: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def checked(cls, model: nn.Module, rule: MaskRule, share: Decimal | None, scoring_data: ScoringData) -> _Finder:
        """Of a rule that can be followed on shards; else a UserError that says everything that cannot."""
        resharded(model)
        if problems := list(_problems(model, rule)):
            raise UserError(problems)
        if share is None:
            raise UserError([Problem("mask.sparsity", "is missing, and no sparsity is learned on a sharded network")])
        weights = prunable_weights(model)
        workers = workers_of(weights)
        sets, others = units_and_others(model, rule, scoring_data)
        # An example can have passed through it.
        resharded(model)
        return cls(model, rule, scoring_data, weights, workers, sets, others)

    def candidates(self, previous: MaskSet | None) -> UnitMasks:
        """Which of this worker's units may be kept, by set, bool [own]."""
        masks = keep_all(self.weights) if previous is None else previous
        return {one.name: one.parts[0].split(part_of(masks[one.name])).reshape(-1) for one in self.sets}

    def search(self, candidates: UnitMasks, share: Decimal, before: Decimal) -> UnitMasks:
        """The iterations of scoring, the mask tightened after each."""
        iterations, nested = self.rule.score.iterations, self.rule.score.nested
        current = candidates
        with left_as_it_was(self.model, self.rule.score.mode):
            dense = self.dense()
            for iteration in range(1, iterations + 1):
                allowed = current if nested else candidates
                step = self.rule.share_at(share, before, iteration)
                scores = self.scores(dense, iteration)
                pools = pools_by(self.rule, self.sets, self.layers(allowed), step, _nothing_measured)
                current = choose_sharded(scores, allowed, pools, self.workers)
                if iteration < iterations:
                    self._mask_weights(dense, current)
        return current

    def dense(self) -> Scores:
        """The unmasked weights."""
        return {one.name: self.weights[one.name].detach().clone() for one in self.sets}

    def scores(self, dense: Scores, iteration: int) -> dict[str, Shard]:
        """The units' scores, of each set this worker's."""
        if (learned := self.scoring_data.learned) is not None:
            reduce = reduction(self.rule.criterion)
            return self.shards({one.name: reduce(part_of(learned[one.name]).reshape(-1, 1)) for one in self.sets})
        criterion, data = self.rule.criterion, self.scoring_data
        scoring = Scoring(
            model=self.model,
            weights={one.name: self.weights[one.name] for one in self.sets},
            dense=dense,
            batches=lambda: data.batches(iteration),
            loss=self.rule.loss(),
            seed=data.seed,
            words=(data.round_number, iteration),
            example=data.example,
            memory=self.memory,
            split=Grouping(self.rule.granularity).split,
            workers=data.workers,
        )
        seed = derive(data.seed, "score layers", *scoring.words)
        with torch.enable_grad(), layers_seeded(self.model, seed):
            made = criterion.entry(axes.CRITERIA).make(scoring, **criterion.options)
            found = scores_by(criterion.name, made, scoring)
        resharded(self.model)
        reduce = reduction(criterion)
        return self.shards({one.name: reduce(one.parts[0].split(part_of(found[one.name]))) for one in self.sets})

    def shards(self, values: Mapping[str, Tensor]) -> dict[str, Shard]:
        """This worker's scores, by set, [own], in their places."""
        shards = {}
        for one in self.sets:
            weight = self.weights[one.name]
            first = first_row(weight, self.workers.rank, self.workers.size) * (one.size // weight.shape[0])
            shards[one.name] = Shard(values[one.name], first, one.size)
        return shards

    def controlled(self, kept: UnitMasks) -> UnitMasks:
        """What the rule's control makes of a mask, of each layer as a whole; without one, the mask."""
        if self.rule.control is None:
            return kept
        make, options = self.rule.control.entry(axes.CONTROLS).make, self.rule.control.options
        found: UnitMasks = {}
        for one in self.sets:
            weight, part = self.weights[one.name], one.parts[0]
            whole = gathered(sharded_like(self._mask(one, kept), weight)).cpu()
            units = {one.name: part.split(whole).reshape(-1)}
            none = {one.name: torch.zeros(one.size, dtype=torch.int32)}
            everything = {one.name: torch.ones(one.size, dtype=torch.bool)}
            chosen = Chosen(units, everything, none, dict(none), self.scoring_data.seed, {one.name: one.run})
            drawn = part.join(make(chosen, **options)[one.name], weight.shape)
            found[one.name] = part.split(part_of(divided_like(drawn, weight))).reshape(-1)
        return found

    def layers(self, allowed: UnitMasks) -> list[LayerUnits]:
        """The layers that take part, with the units of all workers that may be kept."""
        counts = torch.stack([allowed[one.name].sum() for one in self.sets])
        self.workers.total([counts])
        blocks = find_blocks(self.model)
        return [
            LayerUnits(
                one.name, one.shape, one.size, count, one.owners, blocks.place_of(one.name) if blocks.name else None
            )
            for one, count in zip(self.sets, counts.tolist(), strict=True)
        ]

    def _mask_weights(self, dense: Scores, kept: UnitMasks) -> None:
        with torch.no_grad():
            for one in self.sets:
                mask = self._mask(one, kept)
                torch.mul(part_of(dense[one.name]), mask, out=part_of(self.weights[one.name]))

    def _mask(self, one: UnitSet, kept: UnitMasks) -> Tensor:
        """This worker's part of a weight's mask, [own rows, …], from that of its units."""
        part = part_of(self.weights[one.name])
        return one.parts[0].join(kept[one.name], part.shape).to(part.device)

    def as_masks(self, kept: UnitMasks, share: Decimal) -> MaskSet:
        """The mask, with what was asked and what is known of the network."""
        masks = dict(keep_all(self.weights))
        for one in self.sets:
            masks[one.name] = sharded_like(self._mask(one, kept), self.weights[one.name])
        found = MaskSet(masks)
        units = {one.name: (one.size, found.kept[one.name]) for one in self.sets}
        total = sum(one.size for one in self.sets)
        asked = keep_count(total, share, self.rule.rounding), float(1 - share)
        whole = replace(found, units=units, asked=asked).of_network(self.model, self.others)
        # Counted once, by all workers: who asks later asks alone.
        _ = whole.kept
        return whole


def _nothing_measured() -> Measuring:
    raise UserError([Problem("mask.scope", "measures whole layers, and the network is sharded")])
