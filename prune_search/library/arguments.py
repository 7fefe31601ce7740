"""What callers of the library face write, as the values that a recipe would have: read and checked in one place."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from decimal import Decimal
from typing import Any

from torch import Tensor, nn

from prune_search.pruning.mask.counts import exact
from prune_search.pruning.mask.rule import MaskRule, ScoringData
from prune_search.pruning.mask.scoring import Batches
from prune_search.pruning.mask.selection import weight_named
from prune_search.pruning.mask.variants import decided_share
from prune_search.recipe import axes
from prune_search.recipe.fields import BAD, Reading, Value
from prune_search.recipe.problems import Problem, UserError, not_one_of, shown
from prune_search.recipe.recipe import Named
from prune_search.recipe.registry import AnyAxis, Field
from prune_search.recipe.schema import GranularityField
from prune_search.tasks.layers import check_network, other_names, prunable_weights

AnyBatches = Iterable[tuple[Any, Any]] | Callable[[int], Iterable[tuple[Any, Any]]]
Loss = str | Callable[[Any, Any], Tensor]
Given = str | Mapping[str, Any]
# Names of whole methods: a criterion, and how often it is scored.
ALIASES: dict[str, tuple[str, dict[str, Any], bool]] = {
    "force": ("snip", {"name": "exponential", "iterations": 60}, False),
    "iterative-snip": ("snip", {"name": "exponential", "iterations": 60}, True),
}
ITERATIONS = 100
ROUNDINGS = ("half-up", "floor-keep", "floor-drop")


def value(axis: AnyAxis, written: Given, path: str, options: Mapping[str, Any] | None = None) -> Named:
    """A registered value, with further options.

    Raises:
        UserError: with everything that is wrong about it.
    """
    return Named.of(axis, canonical(Value(axis), _merged(written, options or {}), path))


def canonical(field: Field, written: Any, path: str) -> Any:
    """The canonical form of what was written.

    Raises:
        UserError: with everything that is wrong about it.
    """
    told = Reading()
    read = field.read(written, path, told)
    if told.problems or read is BAD:
        raise UserError(told.problems)
    return read


def _merged(written: Given, options: Mapping[str, Any]) -> Any:
    if not options:
        return written
    return {"name": written, **options} if isinstance(written, str) else {**written, **options}


def method(criterion: Given) -> tuple[Given, dict[str, Any] | None, bool]:
    """The criterion that a name means, the schedule that an alias brings, and whether removed units stay removed."""
    name = criterion if isinstance(criterion, str) else criterion.get("name", "")
    if name not in ALIASES:
        return criterion, None, True
    known, schedule, nested = ALIASES[name]
    rest = {} if isinstance(criterion, str) else {key: item for key, item in criterion.items() if key != "name"}
    return ({"name": known, **rest} if rest else known), schedule, nested


def schedule_of(written: Given) -> tuple[str, int]:
    """(path, iterations) of ``one-shot``, the name of a path, or ``{name, iterations}``.

    Raises:
        UserError: it is neither.
    """
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
    return loss if callable(loss) else canonical(Value(axes.LOSSES), loss, "loss")


def rounding_of(written: str) -> str:
    """A rounding, checked."""
    if written not in ROUNDINGS:
        raise UserError([Problem("rounding", not_one_of(written, ROUNDINGS))])
    return written


def rule_of(
    criterion: Named,
    scope: Given,
    granularity: Given,
    score: Mapping[str, Any],
    rounding: str = "half-up",
) -> MaskRule:
    """A rule, its parts checked for themselves and together.

    Raises:
        UserError: something is wrong, or does not go together.
    """
    unit = Named.of(axes.GRANULARITIES, canonical(GranularityField(), granularity, "granularity"))
    rule = MaskRule(criterion, value(axes.SCOPES, scope, "scope"), unit, score, None, rounding_of(rounding))
    allowed = criterion.entry(axes.CRITERIA).facts.granularities
    if allowed is not None and unit.name not in allowed:
        text = f"{criterion.name} goes with granularity {', '.join(allowed)} only (got {unit.name!r})"
        raise UserError([Problem("criterion", text)])
    facts = unit.entry(axes.GRANULARITIES).facts
    wrong = facts.check(**unit.options) if facts.check is not None else ""
    if wrong:
        raise UserError([Problem("granularity", wrong)])
    if facts.fixed_sparsity is not None and not rule.scope.entry(axes.SCOPES).facts.even:
        text = f"must be global or uniform: {unit.name} fixes every layer (got {rule.scope.name!r})"
        raise UserError([Problem("scope", text)])
    return rule


def score_block(schedule: Given, loss: Loss, mode: str | None, normalization: Given) -> dict[str, Any]:
    """The score block of a mask that is found in iterations, all but whether they are nested."""
    path, iterations = schedule_of(schedule)
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
    example: Tensor | None,
    seed: int,
) -> ScoringData:
    """The data of a caller.

    Args:
        model: the network. Where there is no input to run it on, its last layer in module order is the output layer.
        batches: (inputs, labels), or from the scoring iteration to them; moved to the network's device.
        example: inputs.
        seed: of what is drawn.
    """
    check_network(model)
    device = next(model.parameters()).device
    fixed = None if batches is None or callable(batches) else _placed(batches, device)

    def at(iteration: int) -> Batches:
        if fixed is not None:
            return fixed
        return _placed(batches(iteration), device) if callable(batches) else []

    shown_input = example.to(device) if example is not None else None
    if shown_input is None and (first := at(1)):
        shown_input = first[0][0]
    last = list(prunable_weights(model))[-1]
    seen = shown_input
    # Where there is an input the network tells which layers make its outputs.
    return ScoringData(at, last, seed, 1, None if seen is None else lambda: seen)


def _placed(batches: Iterable[tuple[Any, Any]], device: Any) -> Sequence[tuple[Any, Any]]:
    def put(item: Any) -> Any:
        return item.to(device) if isinstance(item, Tensor) else item

    return [(put(inputs), put(labels)) for inputs, labels in batches]


def needs_batches(criterion: Named, scoring_data: ScoringData) -> None:
    """Refuse a criterion that needs data where there are none, or that trains, which takes a recipe.

    Raises:
        UserError: so it is.
    """
    if criterion.entry(axes.CRITERIA).facts.trains:
        text = f"{criterion.name} trains its scores, for which a loop is needed: run it in a recipe (prune_search.run)"
        raise UserError([Problem("criterion", text)])
    if criterion.entry(axes.CRITERIA).facts.needs_data and not scoring_data.batches(1):
        raise UserError([Problem("batches", f"criterion {criterion.name} needs some: [(inputs, labels), …]")])


def share_of(model: nn.Module, rule: MaskRule, sparsity: float | Decimal | None, scoring_data: ScoringData) -> Decimal:
    """The kept share that a sparsity, a granularity or a scope means."""
    fixed = rule.granularity.entry(axes.GRANULARITIES).facts.fixed_sparsity
    scope = rule.scope.entry(axes.SCOPES)
    written = {"by": "scope"} if sparsity is None else {"final": float(sparsity)}
    wrong = scope.facts.check(written, **rule.scope.options) if scope.facts.check is not None else ""
    if wrong:
        raise UserError([Problem("scope", f"{scope.name} {wrong}")])
    if fixed is not None:
        only = fixed(**rule.granularity.options)
        if sparsity is not None and abs(float(sparsity) - only) > 1e-9:
            raise UserError([Problem("sparsity", f"is {only:g} with this granularity (got {sparsity})")])
        return 1 - exact(only)
    if sparsity is None:
        if "by" not in scope.facts.sparsity:
            raise UserError([Problem("sparsity", "is missing; it must be a number from 0 to 1")])
        return decided_share(model, rule, scoring_data)
    if "final" not in scope.facts.sparsity:
        raise UserError([Problem("sparsity", f"is decided by scope {scope.name}; leave it out (got {sparsity})")])
    if not 0 <= sparsity <= 1:
        raise UserError([Problem("sparsity", f"must be a number from 0 to 1 (got {sparsity})")])
    return 1 - exact(sparsity)
