"""Budgets of a scope: a share of the dense network's parameters, FLOPs or latency, and counts that use it up."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from prune_search.recipe.fields import Number, child
from prune_search.recipe.problems import not_one_of, shown
from prune_search.recipe.reading import BAD, Reading

if TYPE_CHECKING:
    from prune_search.pruning.mask.layer_measurements import Measuring, Spending

KINDS = ("parameters", "flops", "latency")
# Halvings of an interval in the search for the common factor of all counts that a budget allows.
HALVINGS = 25


@dataclass(frozen=True)
class Budget:
    """One of parameters, flops and latency, with the share of the dense layers' that may be kept."""

    def describe(self) -> str:
        return "{parameters: k}, {flops: k} or {latency: k} with k above 0 and up to 1"

    def read(self, raw: Any, path: str, reading: Reading) -> Any:
        if not isinstance(raw, Mapping) or len(raw) != 1:
            return reading.wrong(path, f"must be {self.describe()} (got {shown(raw)})")
        ((kind, share),) = raw.items()
        if kind not in KINDS:
            return reading.wrong(child(path, kind), not_one_of(kind, KINDS))
        value = Number(0.0, 1.0, above=True).read(share, child(path, kind), reading)
        return BAD if value is BAD else {kind: value}


def lacking_costs(budget: Mapping[str, float] | None, costs: Mapping[str, float] | None) -> str:
    """What is wrong with a budget of latency that comes without measured costs; empty where nothing is.

    Latencies that were measured anew on every machine would give another mask on each.
    """
    if budget is not None and "latency" in budget and not costs:
        return "needs costs per layer for a budget of latency (prune_search.layer_costs measures them)"
    return ""


def spending_of(sizes: Mapping[str, int], measuring: Measuring, given: str | Mapping[str, float]) -> Spending:
    """What counts of kept units cost together.

    Args:
        sizes: units per layer.
        measuring: of the network; where it does not say what counts cost together, costs are in proportion.
        given: the kind of cost, or costs per layer.
    """
    from prune_search.pruning.mask.layer_measurements import Spending

    if measuring.spent is not None:
        return measuring.spent(given)
    whole = measuring.cost(given) if isinstance(given, str) else measuring.shared(given)
    return Spending.in_proportion(whole, sizes)


def spent_up(
    counts: Sequence[int], least: Sequence[int], most: Sequence[int], fits: Callable[[list[int]], bool]
) -> list[int]:
    """Counts in the proportions of some others that use up what there is, as nearly as whole units can.

    All are multiplied by the largest factor that fits, found by halving; then layers get one unit more, one after the
    other.

    Args:
        counts: whose proportions are kept, one per layer.
        least: lower bounds, which fit.
        most: upper bounds.
        fits: whether some counts are within the budget.
    """
    bounds = list(zip(counts, least, most, strict=True))
    found = [min(high, low) for _, low, high in bounds]
    factor, step = 0.0, 1.0
    for _ in range(HALVINGS):
        tried = [min(high, max(low, int(count * (factor + step)))) for count, low, high in bounds]
        if fits(tried):
            factor, found = factor + step, tried
        else:
            step /= 2
    return _filled(found, list(most), fits)


def _filled(counts: list[int], most: list[int], fits: Callable[[list[int]], bool]) -> list[int]:
    """One unit more of one layer after the other, the largest first, as long as there is room."""
    found = list(counts)
    open_ = sorted(range(len(found)), key=lambda index: -most[index])
    while open_:
        for index in list(open_):
            tried = [count + (at == index) for at, count in enumerate(found)]
            if tried[index] <= most[index] and fits(tried):
                found = tried
            else:
                open_.remove(index)
    return found
