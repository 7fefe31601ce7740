"""Reads and checks the arguments of the library functions, as values of a recipe."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from decimal import Decimal
from typing import Any

from torch import Tensor, nn

from prune_search.library import calls
from prune_search.pruning.mask.counts import exact
from prune_search.pruning.mask.finder import ASKED_OUT, MAKES_OUTPUTS, OUTSIDE
from prune_search.pruning.mask.mask_set import MaskSet
from prune_search.pruning.mask.network_units import UNITS_ARE
from prune_search.pruning.mask.receipt import NEAR, budget_told
from prune_search.pruning.mask.rule import MaskRule, ScoringData
from prune_search.pruning.mask.scoring import Batches
from prune_search.pruning.mask.selection import weight_named
from prune_search.pruning.mask.units import WRONG_SHAPE
from prune_search.pruning.mask.variants import decided_share
from prune_search.recipe import axes
from prune_search.recipe.argument_types import of_type
from prune_search.recipe.blocks import Score
from prune_search.recipe.budget import NetworkBudget
from prune_search.recipe.fields import Value, canonical
from prune_search.recipe.problems import Problem, UserError, not_one_of, shown
from prune_search.recipe.reading import BAD, Reading
from prune_search.recipe.recipe import Named, Recipe
from prune_search.recipe.registry import AnyAxis
from prune_search.recipe.rules import check_rules
from prune_search.recipe.schema import GranularityField
from prune_search.tasks.layers import SHOWN, check_network, other_names, prunable_weights
from prune_search.tasks.structures import mapped, tensors_in

AnyBatches = Iterable[Any] | Callable[[int], Iterable[Any]]
Loss = str | Callable[[Any, Any], Tensor]
Given = str | Mapping[str, Any]
# Presets that a criterion's name can stand for: a criterion, and how often it is scored.
METHODS = ("force", "iterative-snip")
ITERATIONS = 100
ROUNDINGS = ("half-up", "floor-keep", "floor-drop")
TIES = ("index", "keep", "drop")
MODES = ("train", "eval")


def value(axis: AnyAxis, written: Given, path: str, options: Mapping[str, Any] | None = None) -> Named:
    """A registered value, with further options.

    Raises:
        UserError: with everything that is wrong about it.
    """
    return Named.of(axis, canonical(Value(axis), _merged(written, options or {}, path), path, library=True))


def _merged(written: Given, options: Mapping[str, Any], path: str) -> Any:
    if not options:
        return written
    of_type(path, written, (str, Mapping), "a name, or {name: …, options}")
    return {"name": written, **options} if isinstance(written, str) else {**written, **options}


def method(criterion: Given) -> tuple[Given, dict[str, Any] | None, bool]:
    """The criterion that a name means, the schedule of such a preset, and whether removed units stay removed."""
    given: object = criterion
    if callable(given):
        text = f"is a function ({shown(criterion)}): compute the scores and pass them to mask_from_scores"
        raise UserError([Problem("criterion", text)])
    name = criterion.get("name", "") if isinstance(criterion, Mapping) else criterion
    if name not in METHODS:
        return criterion, None, True
    mask = Recipe.read(axes.PRESETS[name].make()).mask
    schedule = {"name": mask.score.path.name, "iterations": mask.score.iterations}
    rest = {} if isinstance(criterion, str) else {key: item for key, item in criterion.items() if key != "name"}
    known = mask.criterion.name
    return ({"name": known, **rest} if rest else known), schedule, mask.score.nested


def schedule_of(written: Given) -> tuple[str, int]:
    """(path, iterations) of ``one-shot``, the name of a path, or ``{name, iterations}``.

    Raises:
        UserError: it is neither.
    """
    if not isinstance(written, str | Mapping):
        raise UserError([Problem("schedule", f"must be a name, or {{name, iterations}} (got {shown(written)})")])
    given = {"name": written} if isinstance(written, str) else dict(written)
    name, iterations = given.pop("name", None), given.pop("iterations", None)
    if name not in axes.PATHS:
        raise UserError([Problem("schedule", not_one_of(name, axes.PATHS))])
    if given:
        raise UserError([Problem("schedule", f"takes name and iterations (got {shown(sorted(given))})")])
    if iterations is None:
        iterations = 1 if name == "one-shot" else ITERATIONS
    if isinstance(iterations, bool) or not isinstance(iterations, int) or iterations < 1:
        raise UserError([Problem("schedule.iterations", f"must be a whole number from 1 (got {shown(iterations)})")])
    return str(name), iterations


def loss_of(loss: Loss) -> Any:
    """A loss as a rule takes it: a function as it is, a name checked."""
    return loss if callable(loss) else canonical(Value(axes.LOSSES), loss, "loss", library=True)


def mode_of(written: object) -> None:
    """Refuse what is no mode of a network."""
    if not (written is None or (isinstance(written, str) and written in MODES)):
        raise UserError([Problem("mode", not_one_of(written, MODES))])


def rounding_of(written: str) -> str:
    """A rounding, checked."""
    if written not in ROUNDINGS:
        raise UserError([Problem("rounding", not_one_of(written, ROUNDINGS))])
    return written


def ties_of(written: str) -> str:
    """What becomes of ties, checked."""
    if written not in TIES:
        raise UserError([Problem("ties", not_one_of(written, TIES))])
    return written


def rule_of(
    criterion: Named,
    scope: Given,
    granularity: Given,
    score: Mapping[str, object],
    rounding: str = "half-up",
    ties: str = "index",
) -> MaskRule:
    """A rule, its parts checked for themselves and together; of the sparsity nothing is known yet.

    Raises:
        UserError: something is wrong, or does not go together.
    """
    mode_of(score.get("mode"))
    unit = Named.of(axes.GRANULARITIES, canonical(GranularityField(), granularity, "granularity", library=True))
    competing = value(axes.SCOPES, scope, "scope")
    if competing.entry(axes.SCOPES).facts.searches:
        text = f"{competing.name} tries networks in episodes, which need a trial: run it in a recipe"
        raise UserError([Problem("scope", text)])
    rule = MaskRule(criterion, competing, unit, Score.of(score), None, rounding_of(rounding), ties_of(ties))
    together(rule, None if _fixed_sparsity(unit) is not None else BAD)
    return rule


def _fixed_sparsity(granularity: Named) -> float | None:
    """The only possible sparsity of a granularity; None where it fixes none."""
    fixed = granularity.entry(axes.GRANULARITIES).facts.fixed_sparsity
    return None if fixed is None else fixed(**granularity.options)


def together(rule: MaskRule, sparsity: Any, dynamics: Named | None = None) -> None:
    """Ask a recipe's rules whether the parts of a mask go together, as if they stood in a recipe.

    Args:
        rule: the mask block.
        sparsity: as in a recipe; None where it is left out, BAD where it is not known.
        dynamics: that moves the mask.

    Raises:
        UserError: with everything that does not, said of the arguments.
    """
    criterion = rule.criterion.written
    if dynamics is not None and dynamics.entry(axes.DYNAMICS).facts.starts_from == "all":
        criterion = "all"
    mask = {
        "at": "end",
        "criterion": criterion,
        "scope": rule.scope.written,
        "granularity": rule.granularity.written,
        "score": {"iterations": rule.score.iterations, "mode": rule.score.mode},
        **({} if sparsity is None else {"sparsity": sparsity}),
    }
    # The library has no training of its own, of which nothing can be said then.
    retrain = "none" if dynamics is None else {"dynamics": dynamics.written}
    weights = {"at": "end", "transform": []}
    wrong = check_rules({"train": BAD, "mask": mask, "weights": weights, "rounds": 1, "retrain": retrain})
    if wrong:
        raise UserError(replace(one, path=one.path.removeprefix("mask.").removeprefix("retrain.")) for one in wrong)


def score_block(schedule: Given, loss: Loss, mode: str | None, normalization: Given) -> dict[str, Any]:
    """The score block of a mask that is found in iterations, all but whether they are nested."""
    path, iterations = schedule_of(schedule)
    mode_of(mode)
    scaled = value(axes.NORMALIZATIONS, normalization, "normalization").written
    return {"iterations": iterations, "path": path, "loss": loss_of(loss), "mode": mode, "normalization": scaled}


def controlled(rule: MaskRule, control: Given | None) -> MaskRule:
    """The rule with a registered control."""
    return rule if control is None else replace(rule, control=value(axes.CONTROLS, control, "control"))


def weights_of(model: nn.Module, parameters: Collection[str] | None) -> dict[str, nn.Parameter]:
    """The convolution and linear weights that names of weights or layers mean, in module order; None: all of them."""
    weights = prunable_weights(model)
    if parameters is None:
        return weights
    if not isinstance(parameters, str):
        of_type("parameters", parameters, (Collection,), "a list of names, or None")
    if isinstance(parameters, str):
        text = f"must be a list of names (got {shown(parameters)}: write [{shown(parameters)}])"
        raise UserError([Problem("parameters", text)])
    aliases = other_names(model)
    wanted = {weight_named(name, weights, "parameters", aliases) for name in parameters}
    return {name: weight for name, weight in weights.items() if name in wanted}


def only(rule: MaskRule, model: nn.Module, parameters: Collection[str] | None) -> MaskRule:
    """The rule with all layers left out but some.

    Args:
        rule: for the whole network.
        model: the network.
        parameters: names of weights or layers; None: all of them.
    """
    if parameters is None:
        return rule
    wanted = weights_of(model, parameters)
    given = rule.scope.options.get("exclude", ())
    others = [*given, *(name for name in prunable_weights(model) if name not in wanted)]
    options = {**rule.scope.options, "exclude": others}
    return replace(rule, scope=replace(rule.scope, options=options))


def evidence_of(
    model: nn.Module,
    batches: AnyBatches | None,
    example: Any,
    seed: int,
) -> ScoringData:
    """The scoring data from a caller's arguments.

    Args:
        model: the network. Without an input, its last layer in module order counts as the output layer.
        batches: (inputs [B, …], labels [B]), or a function from the iteration to them; moved to the network's device.
        example: inputs [B, …].
        seed: seed of random draws.

    Raises:
        UserError: one of them is not what it must be.
    """
    check_network(model, sharded=True)
    calls.whole("seed", seed)
    device = next(model.parameters()).device
    fixed = None if batches is None or callable(batches) else _placed(batches, device)

    def at(iteration: int) -> Batches:
        if fixed is not None:
            return fixed
        return _placed(batches(iteration), device) if callable(batches) else []

    shown_input = None if example is None else _put(example, device)
    if shown_input is None and (first := at(1)):
        shown_input = first[0][0]
    last = list(prunable_weights(model))[-1]
    seen = shown_input
    # Where there is an input the network tells which layers make its outputs.
    return ScoringData(at, last, seed, 1, None if seen is None else lambda: seen)


def _placed(batches: Any, device: Any) -> Sequence[tuple[Any, Any]]:
    placed = []
    for place, batch in enumerate(calls.batches_of(batches)):
        if not isinstance(batch, tuple | list) or len(batch) != 2:
            text = f"must be {calls.PAIRS} (batch {place} is {type(batch).__name__})"
            raise UserError([Problem("batches", text)])
        if any(len(tensor) == 0 for tensor in tensors_in(batch[0]) if tensor.dim()):
            raise UserError([Problem("batches", f"batch {place} has no examples")])
        placed.append((_put(batch[0], device), _put(batch[1], device)))
    return placed


def _put(item: Any, device: Any) -> Any:
    return mapped(item, lambda tensor: tensor.to(device))


def needs_batches(criterion: Named, scoring_data: ScoringData) -> None:
    """Refuse a criterion that needs data where there are none, or that trains, which takes a recipe.

    Raises:
        UserError: so it is.
    """
    if criterion.entry(axes.CRITERIA).facts.trains:
        text = f"{criterion.name} trains its scores, which needs a training loop: run it in a recipe (prune_search.run)"
        raise UserError([Problem("criterion", text)])
    if criterion.entry(axes.CRITERIA).facts.needs_data and not scoring_data.batches(1):
        raise UserError([Problem("batches", f"are required by criterion {criterion.name}: [(inputs, labels), …]")])


def share_of(model: nn.Module, rule: MaskRule, sparsity: float | Decimal | None, scoring_data: ScoringData) -> Decimal:
    """The kept share that a sparsity, a granularity or a scope means.

    Raises:
        UserError: the sparsity is missing, invalid, or does not go with the rule.
    """
    fixed = _fixed_sparsity(rule.granularity)
    if rule.budget is not None:
        together(rule, {"budget": rule.budget})
        return decided_share(model, rule, scoring_data)
    by_scope = "by" in rule.scope.entry(axes.SCOPES).facts.sparsity
    if sparsity is not None:
        calls.number("sparsity", sparsity, 0, 1)
    if sparsity is None and fixed is None and not by_scope:
        raise UserError([Problem("sparsity", "is missing; it must be a number from 0 to 1")])
    left_out = None if fixed is not None else {"by": "scope"}
    together(rule, left_out if sparsity is None else {"final": float(sparsity)})
    if fixed is not None:
        return 1 - exact(fixed)
    return decided_share(model, rule, scoring_data) if sparsity is None else 1 - exact(sparsity)


def budget_of(sparsity: float | Decimal | Mapping[str, Any] | None) -> tuple[float | Decimal | None, Any]:
    """A sparsity, or the budget that was given in its place, ``{budget: {parameters: 0.5}}``."""
    if not isinstance(sparsity, Mapping):
        return sparsity, None
    problems: list[Problem] = []
    raw = sparsity.get("budget") if set(sparsity) == {"budget"} else sparsity
    found = NetworkBudget().read(raw, "sparsity.budget", Reading(problems))
    if problems:
        raise UserError(problems)
    return None, found


def told_of(mask: MaskSet) -> MaskSet:
    """The mask, after warnings of a budget that it leaves, and of what takes no part that no one asked to leave out.

    Args:
        mask: as it was found.
    """
    if mask.budget is not None and mask.budget[2] < NEAR * mask.budget[1]:
        warnings.warn(budget_told(mask.budget), stacklevel=calls.callers_level())
    told = (ASKED_OUT, MAKES_OUTPUTS, WRONG_SHAPE, OUTSIDE, UNITS_ARE)
    others = {name: why for name, why in mask.left_out.items() if not why.startswith(told)}
    if others:
        share = sum(mask.sizes[name] for name in others) / sum(mask.sizes.values())
        shown = "; ".join(f"{name}: {why}" for name, why in list(others.items())[:SHOWN])
        more = f"; and {len(others) - SHOWN} more: see receipt().left_out" if len(others) > SHOWN else ""
        of_all = mask.sparsity_of_all_parameters() or 0.0
        text = (
            f"{share:.1%} of the parameters are not pruned, so sparsity {mask.sparsity():.4f} is {of_all:.4f} of "
            f"all parameters ({shown}{more})"
        )
        warnings.warn(text, stacklevel=calls.callers_level())
    return mask
