"""Criteria from the weights of one layer: norms, alone or relative to the layer's other units."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from prune_search.recipe.axes import CRITERIA
from prune_search.recipe.facts import Criterion

if TYPE_CHECKING:
    from prune_search.pruning.mask.scoring import Scores, Scoring


def _units(scoring: Scoring) -> dict[str, list[list[float]]]:
    """Every layer's units as lists of numbers."""
    return {name: scoring.split(weight).tolist() for name, weight in scoring.dense.items()}


def _each_norm(scoring: Scoring) -> dict[str, list[float]]:
    """The slow definition of l2."""
    return {
        name: [math.sqrt(math.fsum(w * w for w in unit)) for unit in units] for name, units in _units(scoring).items()
    }


def _each_lamp(scoring: Scoring) -> dict[str, list[float]]:
    """The slow reference definition of lamp: compares every unit with all others."""
    found = {}
    for name, units in _units(scoring).items():
        squares = [math.fsum(w * w for w in unit) for unit in units]
        found[name] = [s / math.fsum(t for t in squares if t >= s) if s else 0.0 for s in squares]
    return found


def _each_distance(scoring: Scoring) -> dict[str, list[float]]:
    """The slow definition of fpgm: every pair of units."""
    return {
        name: [math.fsum(math.dist(unit, other) for other in units) for unit in units]
        for name, units in _units(scoring).items()
    }


@CRITERIA.register(
    "l2",
    summary="L2 norm of a group: √Σw²",
    source="He et al. 2018, Soft Filter Pruning, 1808.06866",
    facts=Criterion(reduce="norm", oracle=_each_norm, sharded=True),
)
def l2(scoring: Scoring) -> Scores:
    """The unmasked weights, shaped like them; the group takes their Euclidean norm."""
    return {name: weight.clone() for name, weight in scoring.dense.items()}


@CRITERIA.register(
    "lamp",
    summary="w² over the sum of the squares of the layer's weights that are at least as large",
    source="Lee, Park, Mo, Ahn & Shin 2021, Layer-Adaptive Sparsity for Magnitude-Based Pruning, 2010.07611, eq. 3",
    facts=Criterion(reduce="lamp", oracle=_each_lamp),
)
def lamp(scoring: Scoring) -> Scores:
    """The unmasked weights, shaped like them; of groups, the squares are those of their norms."""
    return {name: weight.clone() for name, weight in scoring.dense.items()}


@CRITERIA.register(
    "fpgm",
    summary="distance to the geometric median: Σ_j ‖F_i - F_j‖₂ over the layer's filters",
    source="He, Liu, Wang, Hu & Yang 2019, Filter Pruning via Geometric Median, 1811.00250, eq. 4",
    facts=Criterion(
        reduce="distances", granularities=("filter", "channel"), convolutional_default=True, oracle=_each_distance
    ),
)
def fpgm(scoring: Scoring) -> Scores:
    """The unmasked weights, shaped like them; a filter's score is the sum of its distances to the others."""
    return {name: weight.clone() for name, weight in scoring.dense.items()}
