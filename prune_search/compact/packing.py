"""Sparse packing: stores each masked weight as one bit per position plus the kept values."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

BITS, VALUES, SHAPE = ".bits", ".values", ".shape"


def pack(tensors: Mapping[str, Tensor], masks: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A network's tensors, smaller.

    Args:
        tensors: state dict; masked weights are 0.
        masks: bool, True where a weight is kept.

    Returns:
        Each masked weight as NAME.bits (uint8, little bit order), NAME.values and NAME.shape where that is smaller;
        everything else as it is.

    Example:
        A float32 weight [3, 0, 0, 5] with the mask [1, 0, 0, 1] becomes the bits 0b1001 and the values [3, 5].
    """
    packed: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        mask = masks.get(name)
        kept = tensor.numel() if mask is None else int(mask.sum())
        saved = (tensor.numel() - kept) * tensor.element_size()
        if mask is None or saved <= -(-tensor.numel() // 8) + 8 * tensor.dim():
            packed[name] = tensor
            continue
        flat = mask.cpu().reshape(-1)
        packed[f"{name}{BITS}"] = torch.from_numpy(np.packbits(flat.numpy(), bitorder="little"))
        packed[f"{name}{VALUES}"] = tensor.detach().cpu().reshape(-1)[flat]
        packed[f"{name}{SHAPE}"] = torch.tensor(tensor.shape)
    return packed


def unpack(packed: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors given to `pack` in their original shapes [...], bit for bit except the sign of masked zeros."""
    tensors: dict[str, Tensor] = {}
    for name, tensor in packed.items():
        own = name.removesuffix(BITS)
        if own != name and f"{own}{SHAPE}" in packed:
            shape = packed[f"{own}{SHAPE}"].tolist()
            values = packed[f"{own}{VALUES}"]
            count = int(np.prod(shape))
            mask = torch.from_numpy(np.unpackbits(tensor.numpy(), count=count, bitorder="little")).bool()
            tensors[own] = values.new_zeros(count).masked_scatter(mask, values).reshape(shape)
        elif not any(name.endswith(end) and name.removesuffix(end) + BITS in packed for end in (VALUES, SHAPE)):
            tensors[name] = tensor
    return tensors
