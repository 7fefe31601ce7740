"""Scopes global and uniform: all layers compete with each other, or each layer keeps the same share."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING

from prune_search.pruning.mask.counts import keep_count
from prune_search.pruning.mask.scopes.shared import SHARED
from prune_search.recipe.axes import SCOPES
from prune_search.recipe.facts import Scope
from prune_search.recipe.fields import Word
from prune_search.recipe.registry import Option

if TYPE_CHECKING:
    from prune_search.pruning.mask.mask_set import Pool
    from prune_search.pruning.mask.units import LayerUnits


@SCOPES.register(
    "global",
    summary="all units compete with each other; ⌊kN+½⌋ of N are kept",
    source="Lee, Ajanthan & Torr 2019, 1810.02340",
    options=SHARED,
    facts=Scope(even=True),
)
def global_(layers: list[LayerUnits], share: Decimal, rounding: str = "half-up", *, least: int = 0) -> list[Pool]:
    """One pool of all layers."""
    from prune_search.pruning.mask.mask_set import Pool

    total = sum(layer.units for layer in layers)
    return [Pool(tuple(layer.name for layer in layers), keep_count(total, share, rounding), least=least)]


ORDER = Option(
    Word(("together", "sequential", "blocks")),
    "together",
    "sequential: score the layers in forward order, with all earlier layers already pruned; blocks: block by block",
    later=True,
)


def _same(layers: list[LayerUnits], share: Decimal, **others: object) -> list[float]:
    return [float(share) for _ in layers]


@SCOPES.register(
    "uniform",
    summary="the same share in every layer; ⌊kn+½⌋ of a layer's n units are kept",
    source="Evci et al. 2020, 1911.11134",
    options={"order": ORDER, **SHARED},
    facts=Scope(even=True, densities=_same),
)
def uniform(
    layers: list[LayerUnits], share: Decimal, rounding: str = "half-up", *, order: str = "together", least: int = 0
) -> list[Pool]:
    """One pool per layer; `order` says when each is scored (`finding.Finder.decide`)."""
    del order
    from prune_search.pruning.mask.mask_set import Pool

    counts = [keep_count(layer.units, share, rounding) for layer in layers]
    return [Pool((layer.name,), max(kept, min(least, layer.units))) for layer, kept in zip(layers, counts, strict=True)]
