"""Smart ratios: densities from a layer's position alone, with which random tickets match found ones."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING

from prune_search.pruning.mask.scopes.erdos_renyi import EXACT, densities, pools_of
from prune_search.pruning.mask.scopes.shared import SHARED
from prune_search.recipe.axes import SCOPES
from prune_search.recipe.facts import Scope
from prune_search.recipe.fields import Number, Word
from prune_search.recipe.registry import Option

if TYPE_CHECKING:
    from prune_search.pruning.mask.mask_set import Pool
    from prune_search.pruning.mask.units import LayerUnits


def _wanted(
    layers: list[LayerUnits], share: Decimal, *, linear: float = 0.3, decay: str = "plain", least: int = 0
) -> list[float]:
    """The layers' densities. Layer l of L has ε·((L - l + 1)² + L - l + 1), over l² with decay ``steep``.

    Linear layers have the density `linear`, or of a network of linear layers the last one; the others meet the asked
    share, those that would be above 1 are dense. Where that cannot be met, linear layers give way.
    """
    count, sizes = len(layers), [layer.units for layer in layers]
    flat = [index for index, layer in enumerate(layers) if len(layer.shape) == 2]
    flat = flat if len(flat) < count else [count - 1]
    others = [index for index in range(count) if index not in flat]
    total, fixed = float(share) * sum(sizes), sum(sizes[index] for index in flat)
    rest = sum(sizes[index] for index in others)
    if linear * fixed > total or not rest:
        linear = float(share)
    linear = max(linear, (total - rest) / fixed if fixed else 0.0)
    raw = [float((count - index) ** 2 + count - index) for index in range(count)]
    if decay == "steep":
        raw = [value / (index + 1) ** 2 for index, value in enumerate(raw)]
    found = [linear] * count
    if rest:
        of_rest = min(1.0, (total - linear * fixed) / rest)
        solved = densities([raw[index] for index in others], [sizes[index] for index in others], of_rest)
        for index, density in zip(others, solved, strict=True):
            found[index] = density
    return found


@SCOPES.register(
    "smart-ratios",
    summary=f"density falls with a layer's position l of L as (L-l+1)² + (L-l+1); linear layers have .3; {EXACT}",
    source="Su et al. 2020, Sanity-Checking Pruning Methods: Random Tickets can Win the Jackpot, 2009.11094",
    options={
        "linear": Option(Number(0.0, 1.0), 0.3, "density of linear layers (of a perceptron: of the last one)"),
        "decay": Option(Word(("plain", "steep")), "plain", "steep: also divided by l², as the authors do for VGG"),
        **SHARED,
    },
    facts=Scope(densities=_wanted),
)
def smart_ratios(
    layers: list[LayerUnits],
    share: Decimal,
    rounding: str = "half-up",
    *,
    linear: float = 0.3,
    decay: str = "plain",
    least: int = 0,
) -> list[Pool]:
    """Smart-ratio densities, in module order."""
    return pools_of(layers, share, rounding, least, _wanted(layers, share, linear=linear, decay=decay))
