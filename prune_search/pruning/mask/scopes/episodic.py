"""What scopes that try pruned fractions in episodes share: their options, and the pools of the result."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from prune_search.pruning.mask.budgets import Budget, lacking_costs
from prune_search.pruning.mask.scopes.explicit import PerLayer, overall, toward
from prune_search.pruning.mask.scopes.shared import SHARED
from prune_search.recipe.axes import OPTIMIZERS
from prune_search.recipe.facts import Scope
from prune_search.recipe.fields import Integer, Length, Number, Optimizer, Word
from prune_search.recipe.problems import Problem, UserError
from prune_search.recipe.registry import Option
from prune_search.recipe.step import Step

if TYPE_CHECKING:
    from collections.abc import Callable

    from prune_search.pruning.mask.mask_set import Pool
    from prune_search.pruning.mask.units import LayerUnits

EPISODIC = {
    "budget": Option(Budget(), {"parameters": 0.1}, "share of the dense cost to keep at most"),
    "episodes": Option(Integer(1, 10**6), 200, "networks to try, each a pruned fraction per layer"),
    "reward_steps": Option(Length(absolute=True), "0it", "training of an episode's network before it is measured"),
    "reward_on": Option(Word(("validation", "train")), "validation", "split on which the reward is measured"),
    "optimizer": Option(
        Optimizer(OPTIMIZERS), {"name": "adam", "lr": 3.0e-4}, "optimizer of reward_steps, merged over train's"
    ),
    "most": Option(Number(0.0, 1.0, above=True), 0.95, "largest fraction of a layer to prune; 0.05 less at first"),
    "costs": Option(PerLayer(Number(0.0)), {}, "cost of each layer instead of the counted one, e.g. its latency"),
    **SHARED,
}


def _check(sparsity: Any, **options: Any) -> str:
    return lacking_costs(options.get("budget"), options.get("costs"))


def training_steps(epoch: int, **options: Any) -> int:
    """Training steps of an episode."""
    return Step.parse(options["reward_steps"]).resolve(0, epoch)


def _length(epoch: int, **options: Any) -> int:
    """Steps of the whole search; an episode that trains nothing counts as one."""
    return int(options["episodes"]) * max(1, training_steps(epoch, **options))


def episodic(search: Callable[..., object]) -> Scope:
    """The facts of a scope that searches in episodes.

    Args:
        search: from ``(FractionProblem, **options)`` to the `FractionSearcher`.
    """
    return Scope(sparsity=("by",), decides=True, once=True, check=_check, search=search, length=_length)


def found_pools(
    layers: list[LayerUnits], share: Decimal | None, rounding: str, found: Mapping[str, int] | None, least: int
) -> list[Pool]:
    """One pool per layer, with the units that the search found.

    Args:
        layers: that take part.
        share: kept share of all units, on the way to what was found; None: at the end of it.
        rounding: of counts on the way.
        found: kept units per layer; None: nothing was searched for.
        least: units that each layer keeps at least.

    Raises:
        UserError: nothing was searched for.
    """
    from prune_search.pruning.mask.mask_set import Pool

    if found is None:
        raise UserError([Problem("mask.scope", "searches in episodes, which only the trial of a recipe runs")])
    counts = [found[layer.name] for layer in layers]
    if share is not None and share > overall(layers, counts):
        wanted = [Decimal(count) / Decimal(max(1, layer.units)) for count, layer in zip(counts, layers, strict=True)]
        counts = toward(layers, wanted, share, rounding)
    return [Pool((layer.name,), max(kept, min(least, layer.units))) for layer, kept in zip(layers, counts, strict=True)]
