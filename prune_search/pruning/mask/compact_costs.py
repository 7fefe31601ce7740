"""What a network would cost without the units that a mask removes, counted without cutting them out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from prune_search.pruning.mask.channels import coupled_channels
from prune_search.pruning.mask.layer_measurements import layer_costs
from prune_search.pruning.mask.mask_set import UnitMasks
from prune_search.pruning.mask.units import WEIGHT, Part, UnitSet, along, coupled_sets, masks_of_units
from prune_search.recipe.budget import COSTS, kind_and_share
from prune_search.recipe.problems import UserError

# A latency is of what the layers take, and nothing else.
OF_LAYERS = ("flops", "latency")


@dataclass(frozen=True, eq=False)
class CompactCosts:
    """Counts a cost of the smaller network, for masks of units.

    Attributes:
        model: the network.
        sets: its units.
        cut: the sets of which units can be cut out, in `sets` or of what `sets` are made of; None: nothing can be cut,
            and what is kept of the weights counts.
        prices: of a value of each parameter.
        constant: what costs whatever is removed.
    """

    model: nn.Module
    sets: Sequence[UnitSet]
    cut: Sequence[UnitSet] | None
    prices: Mapping[str, float]
    constant: float = 0.0

    @classmethod
    def of(
        cls,
        model: nn.Module,
        sets: Sequence[UnitSet],
        example: Any,
        budget: Mapping[str, Any],
        coupled: bool,
        cuts: bool,
    ) -> CompactCosts:
        """Of a network.

        Args:
            model: left as it was.
            sets: the units that masks are made of.
            example: inputs [B, …].
            budget: whose kind says what is counted.
            coupled: whether the units span layers.
            cuts: whether removed units can be cut out; else they are zeros among others.
        """
        kind, _ = kind_and_share(budget)
        prices, constant = _prices(model, example, kind, budget.get(COSTS))
        return cls(model, sets, _cut(model, sets, example, coupled, cuts), prices, constant)

    @cached_property
    def shapes(self) -> dict[str, torch.Size]:
        return {name: parameter.shape for name, parameter in self.model.named_parameters()}

    @cached_property
    def whole(self) -> float:
        """Of the dense network."""
        return self.constant + sum(self.prices.get(name, 0.0) * shape.numel() for name, shape in self.shapes.items())

    @cached_property
    def _claims(self) -> list[tuple[str, Part, int, int]]:
        """(set, part, dimension or -1, places of a unit) of all that is cut."""
        found = []
        for one in self.cut or ():
            for part in one.parts:
                dimension, index = along(part.split)
                found.append((one.name, part, dimension, 0 if index is None else int(index.shape[1])))
        return found

    def total(self, kept: UnitMasks) -> float:
        """The cost with some units of every set, bool [units] each, by the set's name."""
        if self.cut is None:
            masks = masks_of_units(self.sets, kept, self.shapes)
            gone = sum(self.prices.get(name, 0.0) * int((~mask).sum()) for name, mask in masks.items())
            return self.whole - gone
        units = kept if self.cut is self.sets else self._cut_of(kept)
        removed: dict[str, dict[int, int]] = {}
        lost: set[str] = set()
        for name, part, dimension, places in self._claims:
            own = part.kept(units[name])
            count = int(own.numel()) - int(np.count_nonzero(own.numpy()))
            if dimension < 0:
                lost |= {part.parameter} if count else set()
                continue
            if part.at is None and count == own.numel():
                count -= 1  # one unit of every kind stays
            sides = removed.setdefault(part.parameter, {})
            sides[dimension] = sides.get(dimension, 0) + count * places
        total = self.constant
        for name, shape in self.shapes.items():
            if name in lost:
                continue
            left = 1
            for dimension, size in enumerate(shape):
                left *= size - removed.get(name, {}).get(dimension, 0)
            total += self.prices.get(name, 0.0) * left
        return total

    def _cut_of(self, kept: UnitMasks) -> dict[str, Tensor]:
        """Which coupled channels stay where their makers' own units are kept: those of which any is."""
        rows = masks_of_units(self.sets, kept, self.shapes)
        alive: dict[tuple[str, int], Tensor] = {}
        found = {}
        for one in self.cut or ():
            stays = torch.zeros(one.size, dtype=torch.bool)
            for part in one.parts:
                if part.role != WEIGHT:
                    continue
                dimension, index = along(part.split)
                key = (part.parameter, dimension)
                if key not in alive:
                    mask = rows.get(part.parameter)
                    size = self.shapes[part.parameter][dimension]
                    whole = torch.ones(size, dtype=torch.bool)
                    alive[key] = whole if mask is None else mask.movedim(dimension, 0).reshape(size, -1).any(1)
                assert index is not None  # of units that lie along a dimension
                any_row = alive[key][index].any(1)
                if part.at is None:
                    stays |= any_row
                else:
                    stays[part.at] |= any_row
            found[one.name] = stays
        return found


def _cut(
    model: nn.Module, sets: Sequence[UnitSet], example: Any, coupled: bool, cuts: bool
) -> Sequence[UnitSet] | None:
    if coupled:
        return sets
    if not cuts:
        return None
    owned = {name for one in sets for name in one.owners}
    try:
        found = coupled_sets(model, coupled_channels(model, frozenset(), example))
    except UserError:
        return None
    return [one for one in found if owned & set(one.owners)] or None


def _prices(
    model: nn.Module, example: Any, kind: str, costs: Mapping[str, float] | None
) -> tuple[dict[str, float], float]:
    parameters = dict(model.named_parameters())
    if kind in OF_LAYERS or costs:
        from prune_search.pruning.mask.selection import weight_named
        from prune_search.tasks.layers import other_names, prunable_weights

        weights = prunable_weights(model)
        aliases = other_names(model)
        path = f"mask.sparsity.budget.{COSTS}"
        given = {weight_named(name, weights, path, aliases): float(one) for name, one in (costs or {}).items()}
        measured = given if costs or kind == "latency" else layer_costs(model, example, kind)
        return {name: cost / max(1, parameters[name].numel()) for name, cost in measured.items()}, 0.0
    if kind == "memory":
        buffers = _beside(model)
        prices = {name: float(one.element_size()) + buffers.get(name, 0.0) for name, one in parameters.items()}
        total = sum(buffer.numel() * buffer.element_size() for buffer in model.buffers())
        return prices, total - sum(buffers.get(name, 0.0) * one.numel() for name, one in parameters.items())
    return dict.fromkeys(parameters, 1.0), 0.0


def _beside(model: nn.Module) -> dict[str, float]:
    """Bytes of buffers per value of the parameter that they lie beside: running statistics and the scale."""
    found: dict[str, float] = {}
    for prefix, module in model.named_modules():
        weight = module._parameters.get("weight")
        if weight is None:
            continue
        alike = [one for one in module.buffers(recurse=False) if one.shape == weight.shape]
        if alike:
            found[f"{prefix}.weight" if prefix else "weight"] = float(sum(one.element_size() for one in alike))
    return found
