"""Single weights (unstructured)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prune_search.recipe.axes import GRANULARITIES

if TYPE_CHECKING:
    from torch import Tensor


@GRANULARITIES.register(
    "weight",
    summary="single weights (unstructured)",
    source="LeCun, Denker & Solla 1990, Optimal Brain Damage; Han et al. 2015, 1506.02626",
)
def weight(tensor: Tensor) -> Tensor:
    """A weight tensor as [units, weights of a unit]: every weight is a unit."""
    return tensor.reshape(-1, 1)
