"""Scopes whose sparsity changes from block to block: by their outliers (owl), or along a straight line (ramp)."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import TYPE_CHECKING

from prune_search.pruning.mask.counts import exact
from prune_search.pruning.mask.scopes.basic import ORDER
from prune_search.pruning.mask.scopes.erdos_renyi import EXACT, pools_of
from prune_search.pruning.mask.scopes.explicit import toward
from prune_search.pruning.mask.scopes.shared import SHARED
from prune_search.recipe.axes import SCOPES
from prune_search.recipe.facts import Scope
from prune_search.recipe.fields import Number
from prune_search.recipe.registry import Option

if TYPE_CHECKING:
    from prune_search.pruning.mask.layer_measurements import Measuring
    from prune_search.pruning.mask.mask_set import Pool
    from prune_search.pruning.mask.units import LayerUnits

HALVINGS = 60


def shifted(wanted: Sequence[float], sizes: Sequence[int], share: float) -> list[float]:
    """Densities that differ as the wanted ones do, and of which the mean over all units is a share.

    One number is added to all of them; what leaves 0…1 is cut off there, and the others make up for it.

    Args:
        wanted: per layer.
        sizes: units per layer.
        share: of all units, 0 to 1.

    Example:
        >>> shifted([0.6, 0.4], [10, 10], 0.25)
        [0.35, 0.15]
    """
    whole = max(1, sum(sizes))

    def at(shift: float) -> list[float]:
        return [min(1.0, max(0.0, density + shift)) for density in wanted]

    def mean(densities: list[float]) -> float:
        return sum(density * size for density, size in zip(densities, sizes, strict=True)) / whole

    straight = at(share - mean(list(wanted)))
    if abs(mean(straight) - share) < 1e-12:
        return straight
    low, high = -1.0 - max(wanted, default=0.0), 1.0 - min(wanted, default=0.0)
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if mean(at(middle)) < share else (low, middle)
    return at(high)


def places(layers: Sequence[LayerUnits]) -> list[int]:
    """Per layer, the number of its block in the order of the network; a layer outside of blocks counts as one."""
    found: list[int] = []
    numbers: dict[object, int] = {}
    for layer in layers:
        key: object = layer.name if layer.block is None else layer.block
        found.append(numbers.setdefault(key, len(numbers)))
    return found


@SCOPES.register(
    "owl",
    summary=f"blocks with more outliers, weights of large |w| · ‖x‖₂, are kept denser; {EXACT}",
    source="Yin et al. 2024, Outlier Weighed Layerwise Sparsity (OWL), 2310.05175, section 3",
    options={
        "outlier": Option(Number(0.0, 1e6, above=True), 5.0, "M: an outlier is more than M times its block's mean"),
        "deviation": Option(Number(0.0, 1.0), 0.08, "λ: the sparsest and the densest block are 2 λ apart"),
        "order": ORDER,
        **SHARED,
    },
    facts=Scope(measured=True),
)
def owl(
    layers: list[LayerUnits],
    share: Decimal,
    rounding: str = "half-up",
    /,
    *,
    measuring: Measuring,
    outlier: float = 5.0,
    deviation: float = 0.08,
    order: str = "together",
    least: int = 0,
) -> list[Pool]:
    """One pool per layer, with the share of its block.

    The share of outliers D of each block is measured on the dense network. Kept shares rise linearly in D, by 2 λ from
    the block of the fewest to that of the most, around the asked share. Of a network without repeated blocks each layer
    is a block; a layer outside of the blocks is kept like an average one.

    Args:
        layers: that take part.
        share: kept share of all units.
        rounding: of the total.
        measuring: what is measured on the dense network.
        outlier: M.
        deviation: λ.
        order: see `basic.ORDER`.
        least: units that each layer keeps at least.
    """
    del order
    measured = {} if measuring.outliers is None else measuring.outliers(outlier)
    known = [measured[layer.name] for layer in layers if layer.name in measured]
    mean = sum(known) / max(1, len(known))
    found = [measured.get(layer.name, mean) for layer in layers]
    span = max(found, default=0.0) - min(found, default=0.0)
    wanted = [2 * deviation * value / span if span else 0.0 for value in found]
    return pools_of(layers, share, rounding, least, shifted(wanted, [layer.units for layer in layers], float(share)))


def _line(layers: Sequence[LayerUnits], share: float | None, first: float | None, last: float | None) -> list[float]:
    """The densities of a line of sparsities over the blocks."""
    middle = 0.5 if share is None else 1 - share
    if first is None:
        first = middle if last is None else 2 * middle - last
    last = 2 * middle - first if last is None else last
    numbers = places(layers)
    most = max(numbers, default=0)
    return [1 - (first + (last - first) * (number / most if most else 0.0)) for number in numbers]


def _densities(
    layers: list[LayerUnits], share: Decimal, *, first: float | None = None, last: float | None = None, **others: object
) -> list[float]:
    return shifted(_line(layers, float(share), first, last), [layer.units for layer in layers], float(share))


def _check(sparsity: object, *, first: float | None = None, last: float | None = None, **others: object) -> str:
    if sparsity == {"by": "scope"} and (first is None or last is None):
        return "ramp needs first and last with sparsity: {by: scope}, which they determine"
    return ""


@SCOPES.register(
    "ramp",
    summary=f"sparsity changes along a line from the first to the last block; {EXACT}",
    source="this project: two numbers for a search over the sparsities of all layers",
    options={
        "first": Option(Number(0.0, 1.0), None, "sparsity of the first block, before all are shifted to the asked one"),
        "last": Option(Number(0.0, 1.0), None, "sparsity of the last block; one that is left out mirrors the other"),
        "order": ORDER,
        **SHARED,
    },
    facts=Scope(sparsity=("final", "per_round", "by"), densities=_densities, check=_check),
)
def ramp(
    layers: list[LayerUnits],
    share: Decimal | None,
    rounding: str = "half-up",
    /,
    *,
    first: float | None = None,
    last: float | None = None,
    order: str = "together",
    least: int = 0,
) -> list[Pool]:
    """One pool per layer, with the share of its block.

    With a sparsity s the line is moved up or down as a whole until it is met exactly, so that only last - first counts;
    one that is left out is 2 s minus the other. With ``sparsity: {by: scope}`` the line is taken as it stands. A layer
    outside of blocks is a block of its own.

    Args:
        layers: that take part.
        share: kept share of all units; None: that of the line.
        rounding: of counts.
        first: sparsity of the first block.
        last: of the last one.
        order: see `basic.ORDER`.
        least: units that each layer keeps at least.

    Example:
        Three blocks at sparsity 0.5 with first 0.6 and last 0.8 are at 0.4, 0.5 and 0.6.
    """
    del order
    from prune_search.pruning.mask.mask_set import Pool

    if share is not None:
        return pools_of(layers, share, rounding, least, _densities(layers, share, first=first, last=last))
    wanted = [exact(round(density, 12)) for density in _line(layers, None, first, last)]
    counts = toward(layers, wanted, Decimal(0), rounding)
    return [Pool((layer.name,), max(kept, min(least, layer.units))) for layer, kept in zip(layers, counts, strict=True)]
