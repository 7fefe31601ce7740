"""f1: find a mask on the weights of step k1."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from decimal import Decimal, localcontext
from typing import Any

import torch
from torch import Tensor, nn

from prune_search.pruning.controls import Chosen
from prune_search.pruning.counts import PRECISION, keep_count
from prune_search.pruning.masks import MaskSet, Pool, UnitMasks, by_row, select
from prune_search.pruning.reductions import reduction
from prune_search.pruning.scoring import Batches, Scores, Scoring
from prune_search.pruning.units import Grouping
from prune_search.recipe import axes
from prune_search.recipe.recipe import Named
from prune_search.tasks.network import prunable_weights
from prune_search.training.loop import seed_layers
from prune_search.training.randomness import derive


@dataclass(frozen=True)
class LayerUnits:
    """A layer that takes part.

    Attributes:
        name: of its weight.
        shape: of its weight.
        units: how many units the granularity makes of it.
        available: how many of them may still be kept.
    """

    name: str
    shape: tuple[int, ...]
    units: int
    available: int


@dataclass(frozen=True)
class MaskRule:
    """The values of a recipe's mask block that f1 uses.

    Attributes:
        criterion, scope, granularity, path, loss: registered values.
        iterations, nested: how often is scored, and whether what was removed stays removed.
        mode: ``train`` or ``eval``, the network's mode while it is scored.
        control: a registered control, or None.
    """

    criterion: Named
    scope: Named
    granularity: Named
    score: Mapping[str, Any]
    control: Named | None = None

    @classmethod
    def of(cls, mask: Mapping[str, Any], criterion: Named | None = None) -> MaskRule:
        """From a canonical mask block; `criterion` replaces the block's own."""
        control = Named.of(axes.CONTROLS, mask["control"]) if "control" in mask else None
        return cls(
            criterion or Named.of(axes.CRITERIA, mask["criterion"]),
            Named.of(axes.SCOPES, mask["scope"]),
            Named.of(axes.GRANULARITIES, mask["granularity"]),
            mask["score"],
            control,
        )


@dataclass(frozen=True)
class Evidence:
    """What the scores are taken from, besides the weights.

    Attributes:
        batches: the data of scoring iteration t, as (inputs, labels).
        output_layer: the name of the output layer's weight, which some granularities leave out.
        seed: of the trial.
        round_number: r, from 1.
        example: an input of the network, [1, …], whose shape is looked at; None: that of the batches.
    """

    batches: Callable[[int], Batches]
    output_layer: str | None
    seed: int
    round_number: int
    example: Callable[[], Tensor] | None = None


def find_mask(
    model: nn.Module, rule: MaskRule, share: Decimal, previous: tuple[MaskSet, Decimal] | None, evidence: Evidence
) -> MaskSet:
    """The mask on the weights that `model` has.

    Args:
        model: the network at w(k1); it is left as it was.
        rule: what is scored, and how it is selected.
        share: kept share of the units in scope after this round, 0 to 1.
        previous: the mask of the round before and its kept share; only what it kept can be kept.
        evidence: the data, and the draw.

    Returns:
        Exactly as many units per pool as `share` says, ties by order (see `masks`).

    Raises:
        ScoreError: a score is not a number.
    """
    finder = _Finder(model, rule, evidence, previous[0] if previous else None)
    if rule.criterion.entry(axes.CRITERIA).facts["keeps_all"]:
        return finder.as_masks(finder.candidates, Decimal(1))
    chosen = finder.search(share, previous[1] if previous else Decimal(1))
    kept = rule.control.entry(axes.CONTROLS).make(chosen, **rule.control.options) if rule.control else chosen.kept
    return finder.as_masks(kept, share)


class _Finder:
    """One search for a mask: the layers in units, and the iterations of scoring."""

    def __init__(self, model: nn.Module, rule: MaskRule, evidence: Evidence, previous: MaskSet | None) -> None:
        self.model = model
        self.rule = rule
        self.evidence = evidence
        self.weights = prunable_weights(model)
        self.grouping = Grouping(rule.granularity)
        left_out = None if self.grouping.prunes_output_layer else evidence.output_layer
        self.names = [name for name in self.weights if name != left_out]
        # A unit may be kept where the mask before kept any of it.
        self.candidates: UnitMasks = {
            name: self.grouping.split(previous[name]).any(1).cpu()
            if previous
            else torch.ones(self.grouping.split(self.weights[name].detach()).shape[0], dtype=torch.bool)
            for name in self.names
        }

    def pools(self, share: Decimal, available: UnitMasks) -> list[Pool]:
        layers = [
            LayerUnits(name, tuple(self.weights[name].shape), available[name].numel(), int(available[name].sum()))
            for name in self.names
        ]
        found: list[Pool] = self.rule.scope.entry(axes.SCOPES).make(layers, share, **self.rule.scope.options)
        if self.rule.criterion.entry(axes.CRITERIA).facts["compared"] == "row":
            found = by_row(found, {layer.name: (layer.shape, layer.units) for layer in layers}, share)
        return found

    def search(self, share: Decimal, before: Decimal) -> Chosen:
        """The iterations of scoring, the mask tightened after each."""
        iterations, nested = self.rule.score["iterations"], self.rule.score["nested"]
        current = self.candidates
        dropped_at = {name: torch.zeros(mask.numel(), dtype=torch.int32) for name, mask in current.items()}
        last: Scores = {}
        with _left_as_it_was(self.model, self.rule.score["mode"]):
            dense = {name: weight.detach().clone() for name, weight in self.weights.items()}
            for iteration in range(1, iterations + 1):
                allowed = current if nested else self.candidates
                scores = self.normalized(self.score(dense, iteration), allowed)
                for name, score in scores.items():
                    known = last.get(name, score)
                    last[name] = torch.where(allowed[name], score, known)
                step = self._share_at(share, before, iteration, iterations)
                current = select(scores, allowed, self.pools(step, allowed))
                for name, mask in current.items():
                    dropped_at[name][mask] = iteration + 1
                    dropped_at[name][allowed[name] & ~mask] = iteration
                self._mask_weights(dense, current)
        return Chosen(current, self.candidates, dropped_at, last, self.evidence.seed)

    def _share_at(self, share: Decimal, before: Decimal, iteration: int, iterations: int) -> Decimal:
        if iteration == iterations:
            return share
        with localcontext() as context:
            context.prec = PRECISION
            path = Named.of(axes.PATHS, self.rule.score["path"])
            relative = share / before if before else Decimal(0)
            t = Decimal(iteration) / Decimal(iterations)
            at: Decimal = before * path.entry(axes.PATHS).make(relative, t, **path.options)
            return at

    def score(self, dense: Scores, iteration: int) -> Scores:
        """Per layer, the units' scores, on the CPU."""
        criterion = self.rule.criterion.entry(axes.CRITERIA)
        loss = Named.of(axes.LOSSES, self.rule.score["loss"])
        scoring = Scoring(
            model=self.model,
            weights={name: self.weights[name] for name in self.names},
            dense={name: dense[name] for name in self.names},
            batches=lambda: self.evidence.batches(iteration),
            loss=lambda logits, labels: loss.entry(axes.LOSSES).make(logits, labels, **loss.options),
            seed=self.evidence.seed,
            words=(self.evidence.round_number, iteration),
            example=self.evidence.example,
            split=self.grouping.split,
        )
        with _layers_seeded(self.model, derive(self.evidence.seed, "score layers", *scoring.words)):
            found = criterion.make(scoring, **self.rule.criterion.options)
        reduce = reduction(self.rule.criterion)
        return {name: reduce(self.grouping.split(found[name].detach())).cpu() for name in self.names}

    def normalized(self, scores: Scores, allowed: UnitMasks) -> Scores:
        """Each layer's scores, scaled among the units that may be kept."""
        named = Named.of(axes.NORMALIZATIONS, self.rule.score.get("normalization", "none"))
        if named.name == "none":
            return scores
        scaled = {}
        for name, score in scores.items():
            part = named.entry(axes.NORMALIZATIONS).make(score[allowed[name]].double(), **named.options)
            scaled[name] = score.double().masked_scatter(allowed[name], part)
        return scaled

    def _mask_weights(self, dense: Scores, current: UnitMasks) -> None:
        with torch.no_grad():
            for name in self.names:
                kept = self.grouping.join(current[name], dense[name].shape).to(dense[name].device)
                self.weights[name].copy_(dense[name].masked_fill(~kept, 0.0))

    def as_masks(self, kept: UnitMasks, share: Decimal) -> MaskSet:
        """The mask in weights, with what was asked."""
        masks = {
            name: self.grouping.join(kept[name], weight.shape)
            if name in kept
            else torch.ones(weight.shape, dtype=torch.bool)
            for name, weight in self.weights.items()
        }
        units = {name: (mask.numel(), int(mask.sum())) for name, mask in kept.items()}
        total = sum(count for count, _ in units.values())
        return MaskSet(masks, units, (keep_count(total, share), float(1 - share)))


@contextlib.contextmanager
def _layers_seeded(model: nn.Module, seed: int) -> Iterator[None]:
    """What layers like dropout draw depends on the seed only, and moves no draw outside."""
    device = next(model.parameters()).device
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        seed_layers(device, seed)
        yield


@contextlib.contextmanager
def _left_as_it_was(model: nn.Module, mode: str) -> Iterator[None]:
    """Weights, buffers, modes and gradients are put back."""
    state = {name: tensor.detach().clone() for name, tensor in model.state_dict(keep_vars=True).items()}
    modes = {module: module.training for module in model.modules()}
    # A frozen weight is scored like any other.
    frozen = [weight for weight in prunable_weights(model).values() if not weight.requires_grad]
    for weight in frozen:
        weight.requires_grad_(True)
    model.train(mode == "train")
    try:
        yield
    finally:
        for weight in frozen:
            weight.requires_grad_(False)
        with torch.no_grad():
            for name, tensor in model.state_dict(keep_vars=True).items():
                tensor.copy_(state[name])
        for module, training in modes.items():
            module.training = training


def with_control(masks: MaskSet, rule: MaskRule, seed: int) -> MaskSet:
    """A static mask with the final counts of one that moved, drawn by the rule's control."""
    if rule.control is None:
        return masks
    grouping = Grouping(rule.granularity)
    kept = {name: grouping.split(masks[name]).any(1) for name in masks.units}
    everything = {name: torch.ones_like(mask) for name, mask in kept.items()}
    none = {name: torch.zeros(mask.numel(), dtype=torch.int32) for name, mask in kept.items()}
    chosen = Chosen(kept, everything, none, dict(none), seed)
    drawn = rule.control.entry(axes.CONTROLS).make(chosen, **rule.control.options)
    moved = {name: grouping.join(mask, masks[name].shape) for name, mask in drawn.items()}
    units = {name: (mask.numel(), int(mask.sum())) for name, mask in drawn.items()}
    return replace(masks, masks={**masks.masks, **moved}, units=units)
