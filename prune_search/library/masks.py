"""Library functions for scores and masks in your own training loop.

Every function leaves the network as it was: weights, buffers, gradients, modes, and what asks for gradients.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from decimal import Decimal
from typing import Any

from torch import Tensor, nn

from prune_search.library import arguments
from prune_search.library.arguments import AnyBatches, Given, Loss, share_of
from prune_search.library.calls import mask_for, number, scores_of, told_in_one_line
from prune_search.library.task_batches import takes_task_batches
from prune_search.pruning.mask.counts import exact
from prune_search.pruning.mask.finder import find_mask as find_by_rule
from prune_search.pruning.mask.finder import units_in
from prune_search.pruning.mask.mask_set import MaskSet
from prune_search.pruning.mask.reductions import reduction
from prune_search.pruning.mask.restoring import layers_seeded, left_as_it_was
from prune_search.pruning.mask.rule import MaskRule, ScoringData
from prune_search.pruning.mask.scoring import Scores, Scoring, apart, scores_by
from prune_search.pruning.mask.selection import weight_named
from prune_search.pruning.mask.units import WEIGHT, Grouping, UnitSet
from prune_search.pruning.mask.variants import next_mask
from prune_search.recipe import axes
from prune_search.recipe.argument_types import of_type_or_none
from prune_search.recipe.blocks import Score
from prune_search.recipe.problems import Problem, UserError
from prune_search.recipe.recipe import Named
from prune_search.tasks.layers import check_network, other_names, prunable_weights
from prune_search.training.randomness import derive


@told_in_one_line
@takes_task_batches
def score(
    criterion: Given,
    model: nn.Module,
    batches: AnyBatches | None = None,
    loss: Loss = "cross-entropy",
    *,
    mode: str | None = None,
    parameters: Collection[str] | None = None,
    mask: MaskSet | None = None,
    normalization: Given = "none",
    example_input: Any = None,
    seed: int = 0,
    **options: Any,
) -> dict[str, Tensor]:
    """Score the weights of a network with a criterion; larger scores are kept.

    Args:
        criterion: a registered criterion, as a name or ``{name: …, options}``, or ``force`` or ``iterative-snip``.
        model: the network, on any device and of any floating type.
        batches: (inputs [B, …], labels [B]) to score on; scores use the mean gradient over batches, unless
            an option of the criterion says that every batch is scored by itself (taylor). Inputs
            are what the network takes: a tensor, or mappings, sequences or objects with tensors. A batch that is a
            mapping, or a tuple of more than two parts, is read as in `Task`.
        loss: a registered loss, or a function from (outputs [B, C], labels [B]) to a scalar.
        mode: ``train`` or ``eval`` during scoring; None: the modules' current mode.
        parameters: weights or layers to score; None: all convolution and linear weights.
        mask: score the weights under this mask; None: score the unmasked weights.
        normalization: a registered normalization of each layer's scores.
        example_input: inputs [B, …], for criteria that need only their shape.
        seed: seed for criteria that draw random numbers, and for dropout.
        options: options of the criterion.

    Returns:
        Scores by parameter name, shaped like the weight, or [filters] for a criterion that scores only filters; on the
        network's device.

    Raises:
        UserError: an argument is invalid.
        ScoreError: the criterion cannot score this network.
    """
    check_network(model)
    named = arguments.value(axes.CRITERIA, arguments.method(criterion)[0], "criterion", options)
    scaled = arguments.value(axes.NORMALIZATIONS, normalization, "normalization")
    scoring_data = arguments.evidence_of(model, batches, example_input, seed)
    arguments.needs_batches(named, scoring_data)
    allowed = named.entry(axes.CRITERIA).facts.granularities
    filters = allowed is not None and "weight" not in allowed
    grouping = Grouping(arguments.value(axes.GRANULARITIES, "filter" if filters else "weight", "granularity"))
    weights = arguments.weights_of(model, parameters)
    if mask is not None:
        mask_for(model, mask)
    arguments.mode_of(mode)
    with left_as_it_was(model, mode):
        units = _units_at(model, named, weights, grouping, scoring_data, (mask, _loss(loss)))
    scores = {name: _normalized(units[name], scaled) for name in weights}
    return scores if filters else {name: scores[name].reshape(weight.shape) for name, weight in weights.items()}


def _units_at(
    model: nn.Module,
    criterion: Named,
    weights: Mapping[str, nn.Parameter],
    grouping: Grouping,
    scoring_data: ScoringData,
    at: tuple[MaskSet | None, Callable[[Tensor, Tensor], Tensor]],
) -> Scores:
    """The scores of each layer's units under a mask, for a loss; the mask stays on the weights."""
    mask, loss = at
    dense = {name: weight.detach().clone() for name, weight in weights.items()}
    if mask is not None:
        mask.apply(model)
    scoring = Scoring(
        model=model,
        weights=weights,
        dense=dense,
        batches=lambda: scoring_data.batches(1),
        loss=loss,
        seed=scoring_data.seed,
        words=(1, 1),
        example=scoring_data.example,
        split=grouping.split,
    )
    entry, reduce = criterion.entry(axes.CRITERIA), reduction(criterion)
    totals: Scores = {}
    parts = list(apart(scoring, entry.facts.each_batch(**criterion.options)))
    with layers_seeded(model, derive(scoring_data.seed, "score layers", *scoring.words)):
        for part in parts:
            found = scores_by(criterion.name, entry.make(part, **criterion.options), part)
            units = {name: reduce(grouping.split(found[name].detach())) for name in weights}
            totals = {name: totals[name] + one for name, one in units.items()} if totals else units
    return {name: total / len(parts) for name, total in totals.items()} if len(parts) > 1 else totals


def _normalized(units: Tensor, scaled: Named) -> Tensor:
    """The scores of a layer's units, normalized."""
    if scaled.name == "none":
        return units
    scores: Tensor = scaled.entry(axes.NORMALIZATIONS).make(units.double(), **scaled.options)
    return scores


def _loss(loss: Loss) -> Callable[[Tensor, Tensor], Tensor]:
    plain = arguments.value(axes.CRITERIA, "magnitude", "criterion")
    whole, weight = Named("global", {}, "global"), Named("weight", {}, "weight")
    return MaskRule(plain, whole, weight, Score.of({"loss": arguments.loss_of(loss)})).loss()


@told_in_one_line
@takes_task_batches
def find_mask(
    model: nn.Module,
    criterion: Given = "magnitude",
    sparsity: float | Decimal | Mapping[str, Any] | None = None,
    scope: Given = "global",
    granularity: Given = "weight",
    schedule: Given | None = None,
    batches: AnyBatches | None = None,
    loss: Loss = "cross-entropy",
    rounding: str = "half-up",
    *,
    ties: str = "index",
    nested: bool | None = None,
    mode: str | None = None,
    parameters: Collection[str] | None = None,
    normalization: Given = "none",
    control: Given | None = None,
    example_input: Any = None,
    seed: int = 0,
    **options: Any,
) -> MaskSet:
    """Find a mask of the requested sparsity.

    Args:
        model: the network. It can be sharded by torch's `fully_shard`: then all workers call this, each with the same
            number of its own batches, and the mask consists of DTensors (see the guide for what is supported).
        criterion: as in `score`; ``force`` and ``iterative-snip`` are snip, iterated 60 times on an exponential path.
        sparsity: share of the units in scope to remove, 0 to 1; None if granularity or scope determines it; or a budget
            ``{budget: {parameters: 0.5}}`` (flops, memory, latency with costs): the share of the dense network's cost
            that is left at most once removed units are cut out.
        scope: registered: ``global``, ``uniform``, ``er``, ``erk``, ``{name: explicit, layers: {…}}`` …
        granularity: a registered granularity, or ``2:4``. ``{name: channel, convention: torch-pruning}`` joins the
            scores of coupled layers as `group_scores` does by default.
        schedule: ``one-shot`` (the default), a sparsity path's name (100 iterations) or ``{name, iterations}``.
        batches: as in `score`, the same in every iteration, or a function from the iteration (from 1) to them.
        loss: as in `score`.
        rounding: in each iteration: ``half-up`` ⌊kN+½⌋ kept; ``floor-keep`` ⌊kN⌋ kept; ``floor-drop`` ⌊(1-k)N⌋ removed.
        ties: for equal scores at the threshold. ``index`` keeps the first ones, so counts are exact; ``keep`` keeps all
            of them, like a threshold with ≥, and ``drop`` none, like one with >.
        nested: whether removed units stay removed in later iterations; None: the method's default.
        mode: as in `score`.
        parameters: weights or layers to prune; None: all convolution and linear weights.
        normalization: as in `score`.
        control: a registered control.
        example_input: inputs [B, …] if no batches are given; without either, the last module is the output layer.
        seed: as in `score`.
        options: options of the criterion.

    Returns:
        The mask, with its receipt.

    Raises:
        UserError: an argument is invalid.
        ScoreError: a score is not a number.

    Example:
        >>> find_mask(model, criterion="snip", sparsity=0.9, batches=[(x, y)]).apply(model)
    """
    check_network(model, sharded=True)
    known, of_method, stays = arguments.method(criterion)
    named = arguments.value(axes.CRITERIA, known, "criterion", options)
    block = arguments.score_block(
        schedule if schedule is not None else of_method or "one-shot", loss, mode, normalization
    )
    of_type_or_none("nested", nested, (bool,), "True or False")
    block["nested"] = stays if nested is None else nested
    rule = arguments.controlled(arguments.rule_of(named, scope, granularity, block, rounding, ties), control)
    share, budget = arguments.budget_of(sparsity)
    rule = replace(arguments.only(rule, model, parameters), budget=budget)
    scoring_data = arguments.evidence_of(model, batches, example_input, seed)
    arguments.needs_batches(named, scoring_data)
    return arguments.told_of(find_by_rule(model, rule, share_of(model, rule, share, scoring_data), None, scoring_data))


@told_in_one_line
def mask_from_scores(
    model: nn.Module,
    scores: Mapping[str, Tensor],
    sparsity: float | Decimal | None = None,
    scope: Given = "global",
    granularity: Given = "weight",
    rounding: str = "half-up",
    *,
    ties: str = "index",
    mask: MaskSet | None = None,
    normalization: Given = "none",
    control: Given | None = None,
    example_input: Tensor | None = None,
    seed: int = 0,
) -> MaskSet:
    """Turn scores of your own into a mask: larger scores are kept.

    Args:
        model: the network.
        scores: by the name of a weight or layer, numbers shaped like the weight or one per unit [units]. Numbers shaped
            like the weight are summed over each unit of the granularity. Of layers that share channels the scores of
            the first are taken. Layers without scores are not pruned.
        sparsity: share of the units of the scored layers to remove, 0 to 1; None if granularity determines it.
        scope: as in `find_mask`, but for scopes that measure losses.
        granularity: as in `find_mask`.
        rounding: as in `find_mask`.
        ties: as in `find_mask`.
        mask: only units that it keeps can be kept; None: all.
        normalization: as in `score`.
        control: as in `find_mask`.
        example_input: inputs [B, …], which find the output layer and coupled channels.
        seed: of a control that draws.

    Returns:
        The mask, with its receipt.

    Raises:
        UserError: an argument is invalid.
        ScoreError: a score is not a number.

    Example:
        >>> mask_from_scores(model, {"0": importance}, 0.9).apply(model)
    """
    check_network(model)
    if mask is not None:
        mask_for(model, mask)
    named = _by_weight(model, scores_of(scores))
    # The scores are given, one per unit: this criterion's reduction of them leaves them as they are.
    plain = arguments.value(axes.CRITERIA, "random", "criterion")
    block = {**arguments.score_block("one-shot", "cross-entropy", None, normalization), "nested": True}
    rule = arguments.controlled(arguments.rule_of(plain, scope, granularity, block, rounding, ties), control)
    if rule.scope.entry(axes.SCOPES).facts.measured:
        raise UserError([Problem("scope", f"{rule.scope.name} measures losses; find_mask does that with a criterion")])
    rule = arguments.only(rule, model, list(named))
    scoring_data = arguments.evidence_of(model, None, example_input, seed)
    units = {one.name: _given(one, named) for one in units_in(model, rule, scoring_data)}
    previous = None if mask is None else (mask, Decimal(1))
    share = share_of(model, rule, sparsity, scoring_data)
    return find_by_rule(model, rule, share, previous, replace(scoring_data, learned=units))


def _by_weight(model: nn.Module, scores: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Scores by the names of weights, which none has twice."""
    if not scores:
        raise UserError([Problem("scores", "is empty: pass the scores of at least one layer")])
    weights, aliases = prunable_weights(model), other_names(model)
    found: dict[str, Tensor] = {}
    for name, tensor in scores.items():
        weight = weight_named(name, weights, "scores", aliases)
        if weight in found:
            raise UserError([Problem("scores", f"of {weight} are given twice, under two names")])
        if tensor.dim() != 1 and tensor.shape != (shape := weights[weight].shape):
            text = f"of {weight} have the shape {list(tensor.shape)}, not {list(shape)} or one number per unit"
            raise UserError([Problem("scores", text)])
        found[weight] = tensor
    return found


def _given(one: UnitSet, scores: Mapping[str, Tensor]) -> Tensor:
    """The scores of a set's units, [units], from those of its layers."""
    whole = (part for part in one.parts if part.role == WEIGHT and part.at is None and part.parameter in scores)
    part = next(whole, None)
    if part is None:
        text = f"contain no layer with all {one.size} channels that {', '.join(one.owners)} share"
        raise UserError([Problem("scores", text)])
    found = scores[part.parameter].detach()
    if found.shape == (one.size,):
        return found
    try:
        split = part.split(found)
    except (RuntimeError, IndexError, ValueError):
        split = None
    if split is None or split.shape[0] != one.size or found.numel() != math.prod(one.shape):
        text = f"of {part.parameter} have the shape {list(found.shape)}, not {list(one.shape)} or [{one.size}]"
        raise UserError([Problem("scores", text)])
    return split.sum(1) if split.shape[1] > 1 else split[:, 0]


@told_in_one_line
@takes_task_batches
def next_level(
    mask: MaskSet,
    model: nn.Module,
    fraction: float,
    rounding: str = "half-up",
    *,
    ties: str = "index",
    criterion: Given = "magnitude",
    scope: Given = "global",
    granularity: Given = "weight",
    batches: AnyBatches | None = None,
    loss: Loss = "cross-entropy",
    mode: str | None = None,
    parameters: Collection[str] | None = None,
    example_input: Any = None,
    seed: int = 0,
) -> MaskSet:
    """Prune a fraction of what a mask still keeps: iterative pruning (Frankle & Carbin 2019, 1803.03635).

    Args:
        mask: the current mask.
        model: the network, trained under that mask.
        fraction: share p of the units that `mask` keeps (with scope uniform, in each layer) to remove, 0 to 1.
        rounding: rounding of the kept count (1-p)·n, as in `find_mask`.
        ties: as in `find_mask`.
        criterion: this and all further arguments are as in `find_mask`.
        scope: which units compete.
        granularity: which weights form a unit.
        batches: (inputs [B, …], labels [B]).
        loss: function from (outputs [B, C], labels [B]) to a scalar.
        mode: mode of the network during scoring.
        parameters: weights or layers to prune.
        example_input: inputs [B, …].
        seed: seed of random draws.

    Returns:
        A mask that keeps a subset of `mask`.

    Raises:
        UserError: an argument is invalid.
    """
    check_network(model)
    number("fraction", fraction, 0, 1)
    mask_for(model, mask)
    named = arguments.value(axes.CRITERIA, criterion, "criterion")
    block = {"iterations": 1, "path": "one-shot", "nested": True, "loss": arguments.loss_of(loss), "mode": mode}
    rule = arguments.only(arguments.rule_of(named, scope, granularity, block, rounding, ties), model, parameters)
    scoring_data = arguments.evidence_of(model, batches, example_input, seed)
    arguments.needs_batches(named, scoring_data)
    return arguments.told_of(next_mask(model, rule, 1 - exact(fraction), mask, scoring_data))
