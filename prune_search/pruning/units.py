"""A granularity at work: a layer's weights as units, and units as weights."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from prune_search.recipe import axes
from prune_search.recipe.recipe import Named


@dataclass(frozen=True)
class Grouping:
    """The units that a granularity makes of a weight."""

    granularity: Named

    def split(self, tensor: Tensor) -> Tensor:
        """A tensor shaped like a weight as [units, weights of a unit]."""
        units: Tensor = self.granularity.entry(axes.GRANULARITIES).make(tensor, **self.granularity.options)
        return units

    def join(self, kept: Tensor, shape: torch.Size) -> Tensor:
        """A bool mask of units, [units], as one of weights, shaped like the weight."""
        places = self.split(torch.arange(shape.numel()).reshape(shape))
        mask = torch.empty(shape.numel(), dtype=torch.bool)
        mask[places.reshape(-1)] = kept.unsqueeze(1).expand(places.shape).reshape(-1)
        return mask.reshape(shape)

    @property
    def prunes_output_layer(self) -> bool:
        """Whether the output layer takes part."""
        return bool(self.granularity.entry(axes.GRANULARITIES).facts["output_layer"])
