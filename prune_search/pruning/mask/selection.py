"""Selects units: layers excluded by a scope, minimum counts per layer, runs of n of m."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from decimal import Decimal
from functools import partial
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from prune_search.pruning.mask.counts import keep_count
from prune_search.pruning.mask.mask_set import Pool, UnitMasks, by_row, select
from prune_search.pruning.mask.scoring import Scores
from prune_search.pruning.mask.units import UnitSet
from prune_search.recipe import axes
from prune_search.recipe.problems import Problem, UserError, not_one_of
from prune_search.recipe.recipe import Named
from prune_search.tasks.layers import other_names
from prune_search.tasks.network import running_order

if TYPE_CHECKING:
    from prune_search.pruning.mask.layer_measurements import Measuring
    from prune_search.pruning.mask.rule import MaskRule
    from prune_search.pruning.mask.units import LayerUnits

ENDS = ("first", "last")
NEAR = Decimal("1e-9")


def choose(scores: Mapping[str, Tensor], candidates: Mapping[str, Tensor], pools: list[Pool]) -> UnitMasks:
    """Select units as `mask_set.select` does, from scores and candidates [units] per layer, respecting minimum counts.

    Each layer's highest-scored units up to its floor are kept first; the rest of the pool's count goes to the highest
    scores of what is left. Where the floors alone are more than the count, they win.
    """
    return floors_first(partial(select, scores), candidates, pools, _counts)


def floors_first(
    highest: Callable[[Mapping[str, Tensor], list[Pool]], UnitMasks],
    candidates: Mapping[str, Tensor],
    pools: list[Pool],
    counted: Callable[[Mapping[str, Tensor]], Mapping[str, int]],
) -> UnitMasks:
    """Select units as `choose` does.

    Args:
        highest: from candidates [units] per layer, and pools, to the highest-scored units of each pool.
        candidates: the units that may be kept.
        pools: with minimum counts or without.
        counted: how many units masks [units] per layer keep.
    """
    floors = [pool for pool in pools if pool.least or pool.floors]
    if not floors:
        return highest(candidates, pools)
    reserved = highest(candidates, [Pool((name,), pool.floor(name)) for pool in floors for name in pool.names])
    rest = {
        name: mask.to(reserved[name].device) & ~reserved[name] if name in reserved else mask
        for name, mask in candidates.items()
    }
    counts = counted(reserved)
    spared = {pool.names: sum(counts[name] for name in pool.names if name in counts) for pool in pools}
    others = highest(rest, [replace(pool, kept=max(0, pool.kept - spared[pool.names])) for pool in pools])
    return {name: mask | reserved[name] if name in reserved else mask for name, mask in others.items()}


def _counts(masks: Mapping[str, Tensor]) -> dict[str, int]:
    return {name: int(mask.sum()) for name, mask in masks.items()}


def in_runs(sets: Sequence[UnitSet], share: Decimal, rounding: str) -> list[Pool]:
    """The pools of n of m: in every run the same count."""
    found = []
    for one in sets:
        wanted = one.run * share
        whole = wanted.to_integral_value()
        # 1 - n/m is a float: its written form need not be n/m to the last digit.
        kept = int(whole) if abs(wanted - whole) < NEAR else keep_count(one.run, share, rounding)
        found.append(Pool((one.name,), kept, one.size // one.run))
    return found


def excluded(names: Sequence[str], model: nn.Module, weights: Mapping[str, Any], example: Any) -> set[str]:
    """The weights that a scope leaves out.

    Args:
        names: ``first`` and ``last`` in the order of the forward pass (without an example: of the modules), layers or
            their weights.
        model: the network.
        weights: its prunable weights.
        example: an input [B, …].

    Raises:
        UserError: a name is none of a layer.
    """
    found = set()
    order, aliases = list(weights), other_names(model)
    if example is not None and set(names) & set(ENDS):
        order = running_order(model, example) or order
    for name in names:
        if name in ENDS:
            found.add(order[0 if name == "first" else -1])
        else:
            found.add(weight_named(name, weights, "mask.scope.exclude", aliases))
    return found


def weight_named(name: str, weights: Mapping[str, Any], path: str, aliases: Mapping[str, str] | None = None) -> str:
    """The weight that a layer's or weight's name means.

    Args:
        name: as written.
        weights: the prunable weights by name.
        path: where it is written.
        aliases: the other names of tied weights.

    Raises:
        UserError: there is none.
    """
    for candidate in (name, f"{name}.weight"):
        if candidate in weights:
            return candidate
        if aliases and candidate in aliases:
            return aliases[candidate]
    raise UserError([Problem(path, not_one_of(name, [*ENDS, *(w.removesuffix(".weight") for w in weights)]))])


# Options of scopes that name layers: in a list, or as the keys of a mapping.
NAMING = ("exclude", "layers", "costs")


def unknown_layers(scope: Named, weights: Mapping[str, Any], aliases: Mapping[str, str] | None = None) -> list[Problem]:
    """Everything that a scope names and a network does not have, so that it is refused before anything is trained."""
    problems: list[Problem] = []
    for key in NAMING:
        for name in scope.options.get(key) or ():
            try:
                if not (key == "exclude" and name in ENDS):
                    weight_named(name, weights, f"mask.scope.{key}", aliases)
            except UserError as error:
                problems += error.problems
    return problems


def scope_pools(
    rule: MaskRule,
    layers: list[LayerUnits],
    share: Decimal | None,
    measuring: Callable[[], Measuring],
    found: Mapping[str, int] | None = None,
) -> list[Pool]:
    """The pools that a rule's scope makes.

    Args:
        rule: with the scope.
        layers: that take part.
        share: kept share of all units; None where the scope decides it.
        measuring: what a scope may measure.
        found: the kept units by layer, where the scope has searched for them in episodes.
    """
    scope = rule.scope.entry(axes.SCOPES)
    options = {key: value for key, value in rule.scope.options.items() if key != "exclude"}
    if scope.facts.measured:
        options["measuring"] = measuring()
    if scope.facts.searches:
        options["found"] = found
    return scope.build(list, layers, share, rule.rounding, **options)


def pools_by(
    rule: MaskRule,
    sets: Sequence[UnitSet],
    layers: list[LayerUnits],
    share: Decimal | None,
    measuring: Callable[[], Measuring],
    found: Mapping[str, int] | None = None,
) -> list[Pool]:
    """Who competes with whom under a rule, and how many are kept.

    Args:
        rule: with granularity, scope and criterion.
        sets: the units.
        layers: the same, with how many of them may be kept.
        share: kept share of all units; None where the scope decides it.
        measuring: what a scope may measure.
        found: see `scope_pools`.
    """
    if sets[0].run and share is not None:
        pools = in_runs(sets, share, rule.rounding)
    else:
        pools = scope_pools(rule, layers, share, measuring, found)
        compared = rule.criterion.entry(axes.CRITERIA).facts.competition(**rule.criterion.options)
        if share is not None and compared != "scope":
            shapes = {layer.name: (layer.shape, layer.units) for layer in layers}
            pools = by_row(pools, shapes, share, rule.rounding, compared == "layer")
    if least := {one.name: one.least for one in sets if one.least}:
        pools = [replace(pool, floors={name: least[name] for name in pool.names if name in least}) for pool in pools]
    return pools if rule.ties == "index" else [replace(pool, ties=rule.ties) for pool in pools]


def normalized(named: Named, scores: Scores, allowed: UnitMasks) -> Scores:
    """Each layer's scores, scaled among the units that may be kept.

    Args:
        named: the registered normalization.
        scores: per layer, [units].
        allowed: per layer, bool [units].
    """
    if named.name == "none":
        return scores
    scaled = {}
    for name, score in scores.items():
        part = named.entry(axes.NORMALIZATIONS).make(score[allowed[name]].double(), **named.options)
        scaled[name] = score.double().masked_scatter(allowed[name], part.double())
    return scaled
