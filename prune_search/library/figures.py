"""Library functions that need no scores: densities per layer, sparsities along a path, costs of layers."""

from __future__ import annotations

import math
from decimal import Decimal, localcontext
from typing import Any

from torch import nn

from prune_search.library import arguments
from prune_search.library.arguments import Given
from prune_search.library.calls import number, told_in_one_line
from prune_search.pruning.mask.counts import PRECISION, exact
from prune_search.pruning.mask.finder import units_in
from prune_search.pruning.mask.layer_measurements import layer_costs as costs_of_layers
from prune_search.pruning.mask.units import LayerUnits
from prune_search.recipe import axes
from prune_search.recipe.problems import Problem, UserError, not_one_of
from prune_search.tasks.layers import check_network, prunable_weights


@told_in_one_line
def layer_densities(
    model: nn.Module,
    scope: Given,
    sparsity: float | Decimal | None = None,
    *,
    granularity: Given = "weight",
    example_input: Any = None,
) -> dict[str, float]:
    """The kept share of every layer under a scope, before rounding to whole units.

    Args:
        model: the network.
        scope: ``uniform``, ``er``, ``erk`` or ``explicit``, whose densities follow from shapes.
        sparsity: share of the units in scope to remove, 0 to 1; None with ``explicit``.
        granularity: which weights form a unit; layers it does not prune are kept whole.
        example_input: inputs [B, …], for granularities and exclusions that need a forward pass.

    Raises:
        UserError: the scope's densities depend on scores.
    """
    check_network(model)
    plain = arguments.value(axes.CRITERIA, "magnitude", "criterion")
    rule = arguments.rule_of(plain, scope, granularity, {"loss": "cross-entropy", "mode": None})
    entry = rule.scope.entry(axes.SCOPES)
    if entry.facts.densities is None:
        known = ", ".join(name for name, one in axes.SCOPES.items() if one.facts.densities is not None)
        raise UserError([Problem("scope", f"{entry.name} depends on scores; densities follow from {known}")])
    scoring_data = arguments.evidence_of(model, None, example_input, 0)
    share = arguments.share_of(model, rule, sparsity, scoring_data)
    sets = units_in(model, rule, scoring_data)
    layers = [LayerUnits(one.name, one.shape, one.size, one.size, one.owners) for one in sets]
    options = {key: item for key, item in rule.scope.options.items() if key not in ("exclude", "least")}
    found = dict.fromkeys(prunable_weights(model), 1.0)
    for one, density in zip(sets, entry.facts.densities(layers, share, **options), strict=True):
        found.update(dict.fromkeys(one.owners, density))
    return found


@told_in_one_line
def sparsity_at(
    path: str, t: float, initial: float = 0.0, final: float = 1.0, begin: float = 0.0, end: float = 1.0
) -> float:
    """The sparsity at a step of a path.

    Args:
        path: a registered sparsity path: ``linear``, ``exponential``, ``cubic``, ``one-shot``.
        t: the step, or time.
        initial: sparsity until `begin`, 0 to below 1.
        final: sparsity from `end` on, `initial` to 1.
        begin: step at which the path starts.
        end: step at which it ends.

    Example:
        Zhu & Gupta 2017 (1710.01878, eq. 1), s_f + (s_i - s_f)(1 - t)³ half-way to 0.9:

        >>> sparsity_at("cubic", 50, initial=0, final=0.9, begin=0, end=100)
        0.7875

    Raises:
        UserError: the path is unknown, or the sparsities do not increase.
    """
    if path not in axes.PATHS:
        raise UserError([Problem("path", not_one_of(path, axes.PATHS))])
    for name, given in (("t", t), ("begin", begin), ("end", end)):
        number(name, given, -math.inf)
    for name, given in (("initial", initial), ("final", final)):
        number(name, given, 0, 1)
    if not initial <= final:
        raise UserError([Problem("final", f"must be from initial to 1 (got initial {initial}, final {final})")])
    if t >= end:
        return float(final)
    if t <= begin or initial == 1:
        return float(initial)
    with localcontext() as context:
        context.prec = PRECISION
        first = 1 - exact(initial)
        place = (exact(t) - exact(begin)) / (exact(end) - exact(begin))
        kept = first * axes.PATHS[path].make((1 - exact(final)) / first, place)
        return float(1 - kept)


@told_in_one_line
def layer_costs(model: nn.Module, example_input: Any, kind: str = "flops") -> dict[str, float]:
    """The cost of each layer: ``parameters``, ``flops`` for one input, or ``latency`` in milliseconds on this machine.

    Pass the latencies to scope knapsack as ``costs``: a recipe with a measured table gives the same mask everywhere.

    Args:
        model: the network.
        example_input: inputs [B, …].
        kind: ``parameters``, ``flops`` or ``latency``.

    Returns:
        The cost of each layer, by the name of its weight.

    Raises:
        UserError: the kind is unknown, or the network has weights that cannot be pruned because they are computed.
    """
    kinds = ("parameters", "flops", "latency")
    if kind not in kinds:
        raise UserError([Problem("kind", not_one_of(kind, kinds))])
    check_network(model)
    if example_input is None:
        raise UserError([Problem("example_input", "is missing: pass inputs of the network, [B, …]")])
    return costs_of_layers(model, example_input, kind)
