"""Erdős–Rényi densities: small layers are kept denser, with or without the kernel size."""

from __future__ import annotations

import math
from collections.abc import Callable
from decimal import Decimal
from typing import TYPE_CHECKING

from prune_search.pruning.mask.counts import allocate, keep_count
from prune_search.pruning.mask.scopes.shared import SHARED
from prune_search.recipe.axes import SCOPES
from prune_search.recipe.facts import Scope

if TYPE_CHECKING:
    from prune_search.pruning.mask.mask_set import Pool
    from prune_search.pruning.mask.units import LayerUnits

EXACT = "counts are rounded by largest remainder to keep exactly ⌊kN+½⌋ units in total"


def densities(raw: list[float], sizes: list[int], share: float) -> list[float]:
    """Layer densities min(1, ε·raw) with ε such that the kept share of all units is `share`.

    Layers that ε would take above 1 are dense, and ε is solved again for the rest (Evci et al. 2020, 1911.11134, A.1).

    Args:
        raw: relative densities, above 0.
        sizes: units per layer.
        share: kept share, 0 to 1.
    """
    dense: set[int] = set()
    while True:
        rest = [index for index in range(len(raw)) if index not in dense]
        wanted = share * sum(sizes) - sum(sizes[index] for index in dense)
        weight = sum(raw[index] * sizes[index] for index in rest)
        epsilon = wanted / weight if weight else 0.0
        over = {index for index in rest if epsilon * raw[index] > 1.0}
        if not over:
            return [1.0 if index in dense else max(0.0, epsilon * raw[index]) for index in range(len(raw))]
        dense |= over


def _wanted(layers: list[LayerUnits], share: Decimal, relative: Callable[[tuple[int, ...]], float]) -> list[float]:
    return densities([relative(layer.shape) for layer in layers], [layer.units for layer in layers], float(share))


def pools_of(layers: list[LayerUnits], share: Decimal, rounding: str, least: int, wanted: list[float]) -> list[Pool]:
    """One pool per layer, near the wanted densities and exact in all.

    Args:
        layers: that take part.
        share: kept share of all units.
        rounding: of the total.
        least: units that each layer keeps at least.
        wanted: density per layer.
    """
    from prune_search.pruning.mask.mask_set import Pool

    sizes = [layer.units for layer in layers]
    counts = [density * size for density, size in zip(wanted, sizes, strict=True)]
    total = keep_count(sum(sizes), share, rounding)
    kept = allocate(total, counts, [layer.available for layer in layers], least)
    return [Pool((layer.name,), count) for layer, count in zip(layers, kept, strict=True)]


def _er(shape: tuple[int, ...]) -> float:
    return (shape[0] + shape[1]) / (shape[0] * shape[1])


def _erk(shape: tuple[int, ...]) -> float:
    return sum(shape) / math.prod(shape)


@SCOPES.register(
    "er",
    summary=f"density ∝ (n_in + n_out) / (n_in · n_out); {EXACT}",
    source="Mocanu et al. 2018, 1707.04780",
    options=SHARED,
    facts=Scope(densities=lambda layers, share: _wanted(layers, share, _er)),
)
def erdos_renyi(layers: list[LayerUnits], share: Decimal, rounding: str = "half-up", *, least: int = 0) -> list[Pool]:
    """Erdős–Rényi densities of a layer's input and output units."""
    return pools_of(layers, share, rounding, least, _wanted(layers, share, _er))


@SCOPES.register(
    "erk",
    summary=f"density ∝ sum(shape) / prod(shape), including the kernel size; {EXACT}",
    source="Evci et al. 2020, Rigging the Lottery, 1911.11134",
    options=SHARED,
    facts=Scope(densities=lambda layers, share: _wanted(layers, share, _erk)),
)
def erdos_renyi_kernel(
    layers: list[LayerUnits], share: Decimal, rounding: str = "half-up", *, least: int = 0
) -> list[Pool]:
    """Erdős–Rényi-kernel densities."""
    return pools_of(layers, share, rounding, least, _wanted(layers, share, _erk))
