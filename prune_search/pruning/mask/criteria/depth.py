"""Criteria that rank layers by their place in the network: last."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prune_search.recipe.axes import CRITERIA
from prune_search.recipe.facts import Criterion

if TYPE_CHECKING:
    import torch

    from prune_search.pruning.mask.scoring import Scores, Scoring
else:
    from prune_search.lazy import torch


def _places(scoring: Scoring) -> dict[str, int]:
    """Each weight's place from the end of a forward pass, from 1; those that it does not use come first of all.

    Where there is no input to run, the order is that of the modules.
    """
    from prune_search.tasks.network import running_order

    order = running_order(scoring.model, scoring.shown()) if scoring.example is not None or scoring.batches() else []
    order = [name for name in order if name in scoring.dense] or list(scoring.dense)
    first = [name for name in scoring.dense if name not in order]
    return {name: place for place, name in enumerate(reversed([*first, *order]), start=1)}


def _one_at_a_time(scoring: Scoring) -> dict[str, list[float]]:
    """The slow definition: how many layers come after, and one."""
    from prune_search.tasks.network import running_order

    order = running_order(scoring.model, scoring.shown())
    found = {}
    for name in scoring.dense:
        after = sum(order.index(other) > order.index(name) for other in scoring.dense)
        found[name] = [float(after + 1)]
    return found


@CRITERIA.register(
    "last",
    summary="the layer's place from the end of the network: the deepest layers are removed first",
    source="Ghods, Lan, Goldstein & Studer 2020, 2001.10509, section IV (the last convolution is fused, and so on)",
    facts=Criterion(
        reduce="mean",
        granularities=("layer",),
        sparsity=("layers", "final", "per_round"),
        oracle=_one_at_a_time,
        of_places=True,
    ),
)
def last(scoring: Scoring) -> Scores:
    """1 for every weight of the last layer in a forward pass, 2 for the one before, and so on.

    Without batches or an example input the order is that of the modules.

    Example:
        Of conv1, conv2 and conv3, conv3 has the lowest scores.
    """
    places = _places(scoring)
    return {name: torch.full_like(weight, float(places[name])) for name, weight in scoring.dense.items()}
