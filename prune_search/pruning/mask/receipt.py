"""The receipt of a mask: requested and reached counts as plain numbers. No torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

# From this part of a budget on it is met.
NEAR = 0.98


@dataclass(frozen=True)
class LayerReceipt:
    """What was asked of a layer and what it got.

    Attributes:
        name: of the weight parameter.
        total: weights.
        kept: weights kept.
        units: units of the granularity; 0 for a layer that takes no part, or whose channels are counted at the first of
            the layers that share them.
        units_kept: units kept.
        fused_into: the layer that stands for this one, which the network has no more; empty for all others.
    """

    name: str
    total: int
    kept: int
    units: int
    units_kept: int
    fused_into: str = ""

    def as_data(self) -> dict[str, Any]:
        """Plain data; what is empty is left out."""
        return {key: value for key, value in vars(self).items() if key != "fused_into" or value}


@dataclass(frozen=True)
class LeftOut:
    """A parameter that takes no part.

    Attributes:
        name: of the parameter.
        size: how many values it has.
        reason: why.
    """

    name: str
    size: int
    reason: str


@dataclass(frozen=True)
class Receipt:
    """Asked and reached, per layer and in total.

    Attributes:
        asked: the asked sparsity of the units of the layers in scope.
        reached: 1 - kept/total over all prunable weights, layers that take no part counted as kept.
        units_asked: units to keep.
        units_kept: units kept.
        layers: one per prunable weight, in module order.
        sparsity_of_all_parameters: removed/total over all parameters of the network; None where they are not known.
        left_out: parameters with rows and columns that take no part, and why.
        search: figures of a search in episodes for the layers' fractions; empty where there was none.
        parameters: of the network as its factory made it, and of this one, where layers of it were fused; else None.
        blocks: which blocks the mask was found in, one after the other; empty: it was not.
        budget: (kind, asked share, reached share) of the dense network's cost; None where none was asked for.
    """

    asked: float
    reached: float
    units_asked: int
    units_kept: int
    layers: tuple[LayerReceipt, ...]
    sparsity_of_all_parameters: float | None = None
    left_out: tuple[LeftOut, ...] = ()
    search: Mapping[str, float] = field(default_factory=dict)
    parameters: tuple[int, int] | None = None
    blocks: str = ""
    budget: tuple[str, float, float] | None = None

    @property
    def collapsed(self) -> int:
        """Layers with nothing left, but for those that another one stands for."""
        return sum(layer.kept == 0 and not layer.fused_into for layer in self.layers)

    def as_data(self) -> dict[str, Any]:
        """Plain data for records and JSON."""
        layers = [layer.as_data() for layer in self.layers]
        left_out = [vars(one) for one in self.left_out]
        found = {**vars(self), "layers": layers, "left_out": left_out, "collapsed": self.collapsed}
        without = {"search": not self.search, "parameters": self.parameters is None, "blocks": not self.blocks}
        if self.budget is not None:
            found["budget"] = dict(zip(("kind", "asked", "reached"), self.budget, strict=True))
        without["budget"] = self.budget is None
        return {key: value for key, value in found.items() if not without.get(key)}

    @property
    def fused(self) -> str:
        """Which layers another one stands for, and what became of the network's size, in a sentence; else empty."""
        pairs = [f"{layer.name} into {layer.fused_into}" for layer in self.layers if layer.fused_into]
        if not pairs or self.parameters is None:
            return ""
        before, after = self.parameters
        return f"fused: {', '.join(pairs)}; the network has {after:,} parameters instead of {before:,}"


def budget_told(budget: tuple[str, float, float]) -> str:
    """What was asked of a budget and what is reached, in a sentence.

    Args:
        budget: of a receipt (`Receipt.budget`).
    """
    kind, asked, reached = budget
    more = "" if reached >= NEAR * asked else "; whole units allow no more"
    return f"{reached:.4f} of the dense network's {kind} are left; {asked:g} were requested{more}"


def search_told(figures: Mapping[str, float]) -> str:
    """A search in episodes, in a sentence.

    Args:
        figures: of a receipt (`Receipt.search`).
    """
    episodes, budget = f"{figures['episodes']:.0f} episodes", f"the budget of {figures['budget']:g}%"
    ruined = f"; {figures['ruined']:.0f} networks had no finite loss or accuracy" if "ruined" in figures else ""
    if figures["feasible"]:
        return (
            f"{figures['feasible']:.0f} of {episodes} met {budget}; episode {figures['episode']:.0f} has the highest "
            f"reward of them, {figures['reward']:.4g}, and keeps {figures['cost']:.4g}%{ruined}"
        )
    cheapest = f"the cheapest kept {figures['episode_cost']:.4g}%. Its" if "episode_cost" in figures else "All"
    return (
        f"none of {episodes} met {budget}: {cheapest} layers were thinned alike to {figures['cost']:.4g}%, and that "
        f"network was never tried{ruined}"
    )
