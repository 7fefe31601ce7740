"""Layer densities that lose least within a budget, solved as a multiple-choice knapsack."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from prune_search.pruning.mask.budgets import Budget, lacking_costs, spending_of, spent_up
from prune_search.pruning.mask.counts import allocate, exact, keep_count
from prune_search.pruning.mask.scopes.explicit import PerLayer, overall, toward
from prune_search.pruning.mask.scopes.shared import SHARED
from prune_search.recipe.axes import SCOPES
from prune_search.recipe.facts import Scope
from prune_search.recipe.fields import Integer, Number
from prune_search.recipe.problems import Problem, UserError
from prune_search.recipe.registry import Option

if TYPE_CHECKING:
    from prune_search.pruning.mask.layer_measurements import Measuring, Spending
    from prune_search.pruning.mask.mask_set import Pool
    from prune_search.pruning.mask.units import LayerUnits

# The lowest density that is tried, as a part of the budget's share.
DEEPEST = Decimal("0.125")
SECONDS = 30.0
# Halvings of an interval in the search for what a budget means of the knapsack's limit.
LIMITS = 8
# A cost that is the budget is not above it for the order in which its parts are added.
ROUNDING = 1 + 1e-12


def _check(sparsity: Any, **options: Any) -> str:
    budget = options.get("budget")
    by_scope = isinstance(sparsity, Mapping) and "by" in sparsity
    if by_scope != (budget is not None):
        return "needs either a budget and sparsity {by: scope}, or a sparsity that is the budget of units"
    return lacking_costs(budget, options.get("costs"))


def solve(losses: list[list[float]], costs: list[list[float]], budget: float) -> list[int]:
    """For each layer the choice that makes the sum of losses least, with the sum of costs within the budget.

    Args:
        losses: per layer, of each choice.
        costs: per layer, of each choice.
        budget: of the sum of costs.

    Returns:
        Per layer, the index of its choice: the optimum of the integer program (HiGHS, through SciPy).

    Raises:
        UserError: no choice is within the budget.
    """
    import numpy
    from scipy.optimize import Bounds, LinearConstraint, milp

    sizes = [len(one) for one in losses]
    ends = numpy.cumsum([0, *sizes])
    rows = numpy.zeros((len(sizes) + 1, int(ends[-1])))
    for index in range(len(sizes)):
        rows[index, ends[index] : ends[index + 1]] = 1.0
    flat = numpy.concatenate([numpy.asarray(one, dtype=float) for one in costs])
    unit = budget if budget > 0 else 1.0
    rows[-1] = flat / unit
    lowest, highest = numpy.ones(len(sizes) + 1), numpy.ones(len(sizes) + 1)
    lowest[-1], highest[-1] = -numpy.inf, budget / unit
    objective = numpy.concatenate([numpy.asarray(one, dtype=float) for one in losses])
    scale = float(numpy.abs(objective).max()) or 1.0

    found = milp(
        objective / scale,
        integrality=numpy.ones(len(flat)),
        bounds=Bounds(0, 1),
        constraints=LinearConstraint(rows, lowest, highest),
        options={"mip_rel_gap": 0.0, "time_limit": SECONDS},
    )
    if found.x is None:
        raise UserError([Problem("mask.scope.budget", "is below the minimum cost of the layers")])
    return [int(numpy.argmax(found.x[ends[index] : ends[index + 1]])) for index in range(len(sizes))]


def choices(units: int, share: Decimal, levels: int, least: int) -> list[int]:
    """Counts that are tried of a layer's units: from all down to a part of the share, by equal factors.

    An empty layer is never tried: its loss is measured with every other layer whole, which says little of a network
    that several empty layers cut in two.
    """
    bottom = min(Decimal(1), share * DEEPEST)
    shares = [Decimal(1), *(bottom ** (Decimal(level) / Decimal(levels - 1)) for level in range(1, levels))]
    low = min(max(1, least), units)
    return sorted({max(low, keep_count(units, one)) for one in shares}, reverse=True)


@dataclass(frozen=True)
class Measured:
    """What each choice of each layer costs and loses.

    Attributes:
        counts: per layer, the kept units of each choice, the most first.
        losses: per layer, of each choice.
        costs: per layer, of each choice.
    """

    counts: list[list[int]]
    losses: list[list[float]]
    costs: list[list[float]]

    @classmethod
    def of(
        cls, layers: list[LayerUnits], whole: Mapping[str, float], counts: list[list[int]], measuring: Measuring
    ) -> Measured:
        """Measure the choices; what a layer costs is in proportion to its kept units.

        Args:
            layers: that take part.
            whole: per layer, what it costs with all its units.
            counts: per layer, the kept units of each choice.
            measuring: what is measured on the dense network.
        """
        pairs = list(zip(layers, counts, strict=True))
        losses = [_falling([measuring.loss(layer.name, count) for count in some]) for layer, some in pairs]
        costs = [[whole[layer.name] * count / layer.units for count in some] for layer, some in pairs]
        return cls(counts, losses, costs)

    @property
    def floor(self) -> float:
        """What the deepest choices cost: no limit of the knapsack can be below it."""
        return sum(min(one) for one in self.costs)

    def within(self, limit: float) -> list[int]:
        """Per layer, the kept units that lose least and cost no more than a limit in all."""
        chosen = solve(self.losses, self.costs, limit)
        return [some[index] for some, index in zip(self.counts, chosen, strict=True)]


@SCOPES.register(
    "knapsack",
    summary="layer densities that increase the loss least within a budget of units, parameters, FLOPs or latency",
    source="multiple-choice knapsack over measured losses, as in Aflalo et al. 2020, Knapsack Pruning, 2002.08258",
    options={
        "budget": Option(Budget(), None, "share of the dense cost to keep at most, with sparsity {by: scope}"),
        "levels": Option(Integer(2, 64), 12, "densities to try for each layer"),
        "costs": Option(PerLayer(Number(0.0)), {}, "cost of each layer instead of the counted one, e.g. its latency"),
        **SHARED,
    },
    facts=Scope(sparsity=("final", "by"), measured=True, once=True, check=_check),
)
def knapsack(
    layers: list[LayerUnits],
    share: Decimal | None,
    rounding: str = "half-up",
    /,
    *,
    measuring: Measuring,
    least: int = 0,
    levels: int = 12,
    budget: Mapping[str, float] | None = None,
    costs: Mapping[str, float] | None = None,
) -> list[Pool]:
    """One pool per layer.

    The loss of a choice is measured with that layer alone pruned to it, by the scores of the criterion. What a layer
    costs is in proportion to its kept units; where units can be cut out, a budget counts what the compact network has.
    Without a budget the units themselves are the cost, and exactly the asked count of them is kept: what the choices
    leave of it is given out by largest remainder.

    Args:
        layers: that take part.
        share: kept share of all units; with a budget None, or the share that the budget came to.
        rounding: of the total count.
        measuring: what is measured on the dense network.
        least: units that each layer keeps at least.
        levels: densities that are tried.
        budget: kind and share of the dense cost.
        costs: per layer, in place of the counted ones.

    Raises:
        UserError: the budget cannot be met.
    """
    from prune_search.pruning.mask.mask_set import Pool

    whole = {layer.name: float(layer.units) for layer in layers}
    amount = Decimal(1) if share is None else share
    if budget is not None:
        ((kind, kept),) = budget.items()
        amount = exact(kept)
        whole = dict(measuring.shared(costs) if costs else measuring.cost(kind))
    tried = [choices(layer.units, amount, levels, least) for layer in layers]
    measured = Measured.of(layers, whole, tried, measuring)
    if budget is not None:
        spending = spending_of({one.name: one.units for one in layers}, measuring, costs or kind)
        chosen = _spent_up(layers, measured.within, (measured.floor, sum(whole.values())), float(amount), spending)
        if share is not None:
            chosen = _on_the_way(layers, chosen, share, rounding)
    else:
        total = keep_count(sum(layer.units for layer in layers), amount, rounding)
        # Of fewer units than every layer's deepest choice, the largest remainders decide which layers are left empty.
        chosen = measured.within(max(float(total), measured.floor))
        room = [min(layer.available, layer.units) for layer in layers]
        scale = total / max(1, sum(chosen))
        chosen = allocate(total, [count * scale for count in chosen], room, least)
    return [Pool((layer.name,), count) for layer, count in zip(layers, chosen, strict=True)]


def _spent_up(
    layers: list[LayerUnits],
    within: Callable[[float], list[int]],
    ends: tuple[float, float],
    share: float,
    spending: Spending,
) -> list[int]:
    """The counts that cost what a budget allows, as nearly as whole units can.

    The knapsack adds up what layers cost one by one. Where units can be cut out, the compact network costs less than
    that, because a weight loses inputs as well as outputs, or more, because other things stay whole. So the knapsack's
    limit is moved until the compact network meets the budget; then all counts are raised alike, and one after the
    other, as far as there is room.

    Args:
        layers: that take part.
        within: from a limit of the summed costs to counts.
        ends: the sum of costs with every layer at its deepest choice, and with everything kept.
        share: of the cost that may be kept.
        spending: what counts really cost.

    Raises:
        UserError: the deepest choices cost more than the budget.
    """
    names = [layer.name for layer in layers]
    most = {layer.name: min(layer.available, layer.units) for layer in layers}

    def cost(counts: list[int]) -> float:
        return spending.total(dict(zip(names, counts, strict=True))) / spending.whole

    def fits(counts: list[int]) -> bool:
        return cost(counts) <= share * ROUNDING

    floor, high = ends
    low = max(share * high, floor)
    chosen = within(low)
    if not fits(chosen):
        low, high, chosen = floor, low, within(floor)
        if not fits(chosen):
            left = f"{cost(chosen):.3g} of the cost is left with every layer at its deepest choice"
            raise UserError([Problem("mask.scope.budget", f"of {share:g} is below the minimum cost: {left}")])
    for _ in range(LIMITS if not fits(within(high)) else 0):
        middle = (low + high) / 2
        counts = within(middle)
        low, high, chosen = (middle, high, counts) if fits(counts) else (low, middle, chosen)
    return spent_up(chosen, chosen, [most[name] for name in names], fits)


def _falling(losses: list[float]) -> list[float]:
    """Losses of fewer and fewer units, made to rise only: noise must not make removing more look better."""
    found: list[float] = []
    for loss in losses:
        found.append(max(loss, found[-1]) if found else loss)
    return found


def _on_the_way(layers: list[LayerUnits], chosen: list[int], share: Decimal, rounding: str) -> list[int]:
    if share <= overall(layers, chosen):
        return chosen
    wanted = [Decimal(count) / Decimal(max(1, layer.units)) for count, layer in zip(chosen, layers, strict=True)]
    return toward(layers, wanted, share, rounding)
