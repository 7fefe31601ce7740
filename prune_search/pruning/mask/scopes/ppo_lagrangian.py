"""Pruning through constrained reinforcement learning: a policy learns the layers' pruned fractions within a budget."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from prune_search.pruning.mask.scopes.episodic import EPISODIC, episodic, found_pools
from prune_search.recipe.axes import SCOPES
from prune_search.recipe.fields import Integer, Number
from prune_search.recipe.registry import Option

if TYPE_CHECKING:
    from prune_search.pruning.mask.fraction_search import FractionProblem, FractionSearcher
    from prune_search.pruning.mask.mask_set import Pool
    from prune_search.pruning.mask.units import LayerUnits

# As in the paper, whose searches have 40,000 steps; of a few hundred episodes n_steps 32 and lr 3e-3 learn more.
LEARNING = {
    "n_steps": Option(Integer(1, 10**6), 128, "layers between two updates of the policy, rounded up to whole episodes"),
    "lr": Option(Number(0.0, 1.0, above=True), 3.0e-4, "learning rate of the policy and its critics (Adam)"),
    "epochs": Option(Integer(1, 1000), 10, "passes over the episodes of an update, at most"),
    "clip": Option(Number(0.0, 1.0, above=True), 0.2, "how far a probability may move before its gain stops counting"),
    "target_kl": Option(Number(0.0, above=True), 0.1, "mean KL divergence from the old policy that ends an update"),
    "std": Option(Number(0.0, 10.0, above=True), 0.3, "standard deviation of a fraction at the start"),
    "mean": Option(Number(0.0, 1.0, above=True, below=True), 0.5, "mean of a fraction at the start"),
    "multiplier_lr": Option(Number(0.0, 100.0, above=True), 1.0, "learning rate of the multiplier (Adam)"),
}


def _search(problem: FractionProblem, **options: Any) -> FractionSearcher:
    from prune_search.pruning.mask.policy_search import PolicySearch

    return PolicySearch(problem, **{key: options[key] for key in LEARNING})


@SCOPES.register(
    "ppo-lagrangian",
    summary="layer fractions that a policy learns in episodes, within a budget of parameters, FLOPs or latency",
    source="Malik, Haider, Iqbal & Taj 2021, Pruning through Constrained Reinforcement Learning, 2110.08558",
    options={**EPISODIC, **LEARNING},
    facts=episodic(_search),
)
def ppo_lagrangian(
    layers: list[LayerUnits],
    share: Decimal | None,
    rounding: str = "half-up",
    /,
    *,
    found: Mapping[str, int] | None,
    least: int = 0,
    **options: Any,
) -> list[Pool]:
    """One pool per layer, with the units of the best episode within the budget.

    An episode walks the layers; an action is the fraction of a layer that is pruned. The reward comes at its end: the
    accuracy in percent, or minus the loss where the task has none, after ``reward_steps`` of training, from which the
    weights are put back. The cost is what is kept, in percent; a multiplier that is learned holds its mean at the
    budget.

    Args:
        layers: that take part.
        share: kept share of all units, on the way to what was found; None: at the end of it.
        rounding: of counts.
        found: kept units per layer, from the trial's search.
        least: units that each layer keeps at least.
        options: of the search.

    Raises:
        UserError: nothing was searched for.
    """
    return found_pools(layers, share, rounding, found, least)
