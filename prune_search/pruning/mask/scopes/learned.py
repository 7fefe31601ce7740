"""The scope of a learned mask that decides about each unit separately."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING

from prune_search.pruning.mask.scopes.shared import SHARED
from prune_search.recipe.axes import SCOPES
from prune_search.recipe.facts import Scope

if TYPE_CHECKING:
    from prune_search.pruning.mask.mask_set import Pool
    from prune_search.pruning.mask.units import LayerUnits


@SCOPES.register(
    "learned",
    summary="keeps every unit whose learned score is above 0; units do not compete",
    source="Zhou, Lan, Liu & Yosinski 2019, Deconstructing Lottery Tickets, 1905.01067, section 5",
    options={"exclude": SHARED["exclude"]},
    facts=Scope(sparsity=("learned",)),
)
def learned(layers: list[LayerUnits], share: Decimal, rounding: str = "half-up") -> list[Pool]:
    """One pool per layer, which keeps all of it: the learned scores decide in its place."""
    from prune_search.pruning.mask.mask_set import Pool

    return [Pool((layer.name,), layer.units) for layer in layers]
