"""The mask of a network with fused layers: removed layers keep nothing, and fused ones have grown."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

import torch
from torch import Tensor, nn

from prune_search.pruning.mask.mask_set import MaskSet
from prune_search.tasks.fusion import fused_parameters, records, records_of


def fitted(masks: MaskSet, model: nn.Module, order: Iterable[str] | None = None) -> MaskSet:
    """A mask as it holds in a network that layers were fused in since it was found.

    Args:
        masks: bool tensors, shaped like the weights [...] of the network before.
        model: the network after; where nothing of it is fused, the mask stays as it is.
        order: the prunable weights of the network as its factory made it; None: those of the mask.

    Returns:
        Weights, biases and normalizations that the network has no more keep nothing, in the shapes that they had; a
        layer that stands for others is kept whole, in its shape.
    """
    gone = fused_parameters(records_of(model))
    if not gone:
        return masks
    has = dict(model.named_parameters())
    found: dict[str, Tensor] = {}
    for name in dict.fromkeys((*(masks if order is None else order), *masks)):
        if name in gone:
            found[name] = torch.zeros(gone[name][1], dtype=torch.bool)
        elif name in masks and masks[name].shape == has[name].shape:
            found[name] = masks[name]
        else:
            found[name] = torch.ones(has[name].shape, dtype=torch.bool)
    held = {name: mask for name, mask in masks.held.items() if name not in gone}
    held.update({name: torch.zeros(shape, dtype=torch.bool) for name, (_, shape) in gone.items() if name not in found})
    return replace(masks, masks=found, held=held, fused={name: into for name, (into, _) in gone.items()})


def with_fused(masks: MaskSet, tensors: Mapping[str, Tensor], prefix: str) -> MaskSet:
    """A mask that was stored with a state, and what the state says of the layers that were fused.

    Args:
        masks: of the state, with what keeps nothing because it is gone.
        tensors: of the state.
        prefix: of the names of the network's tensors in it.
    """
    gone = fused_parameters(records(tensors, prefix))
    return replace(masks, fused={name: into for name, (into, _) in gone.items()}) if gone else masks
