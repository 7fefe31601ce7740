"""What is found out of a network while each worker still has all of it: its ends, and what its layers cost."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

import torch
from torch import nn

from prune_search.pruning.mask.layer_measurements import layer_costs
from prune_search.pruning.mask.selection import excluded
from prune_search.recipe.named import Named
from prune_search.recipe.recipe import Recipe
from prune_search.tasks.layers import prunable_weights
from prune_search.tasks.network import output_layer
from prune_search.tasks.structures import mapped
from prune_search.trial.data_and_network import TrialData


@dataclass(frozen=True)
class BeforeSharding:
    """What is known of a whole network.

    Attributes:
        output_layer: the name of its output layer's weight.
        flops: by weight, operations of a forward pass for one example.
        scope: the recipe's, in which ``first`` and ``last`` layers have their names.
    """

    output_layer: str | None
    flops: Mapping[str, float]
    scope: Named

    @classmethod
    def of(cls, model: nn.Module, recipe: Recipe, data: TrialData) -> BeforeSharding:
        """Look at a network on the CPU, or without values on the device meta, with a single example.

        Args:
            model: whole; left as it was.
            recipe: of the trial.
            data: of the trial, on any device.
        """
        device = next((parameter.device for parameter in model.parameters()), torch.device("cpu"))
        example = mapped(data.train.first(1), lambda tensor: tensor.to(device))
        scope = recipe.mask.scope
        if left_out := scope.options.get("exclude"):
            named = sorted(excluded(left_out, model, prunable_weights(model), example))
            scope = replace(scope, options=MappingProxyType({**scope.options, "exclude": named}))
        return cls(output_layer(model, example), layer_costs(model, example, "flops"), scope)
