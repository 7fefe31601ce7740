"""Digests of tensors and masks: equal exactly if names, types, shapes and every bit are equal."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable, Mapping

import numpy as np
import torch
from torch import Tensor


def weights_digest(tensors: Mapping[str, Tensor]) -> str:
    """The sha256 of a network's weights and buffers, or of other named tensors.

    Args:
        tensors: dense, real tensors of any device, layout and type, bfloat16 included.

    Returns:
        64 hexadecimal digits, over the sorted names and each tensor's type, shape and little-endian bytes. The order
        of the mapping, the device and the memory layout do not matter; the sign of a zero does.
    """
    total = hashlib.sha256(b"tensors 1\n")
    for name in sorted(tensors):
        tensor = _whole(tensors[name])
        total.update(_label(name, str(tensor.dtype).removeprefix("torch."), tensor))
        total.update(_little_endian(tensor))
    return total.hexdigest()


def masks_digest(masks: Mapping[str, Tensor]) -> str:
    """The sha256 of named masks, each packed to one bit a place.

    Args:
        masks: boolean tensors, True where a weight is kept.

    Returns:
        64 hexadecimal digits, over the sorted names and each mask's shape and bits in row-major order.

    Raises:
        ValueError: a mask is not boolean.
    """
    total = hashlib.sha256(b"masks 1\n")
    for name in sorted(masks):
        mask = _whole(masks[name])
        if mask.dtype != torch.bool:
            raise ValueError(f"the mask {name!r} is {mask.dtype}, not torch.bool")
        total.update(_label(name, "bits", mask))
        total.update(np.packbits(mask.detach().cpu().contiguous().reshape(-1).numpy(), bitorder="little").tobytes())
    return total.hexdigest()


def _whole(tensor: Tensor) -> Tensor:
    """All of a tensor: of one that lies on several workers, gathered. They all call this, for one tensor at a time."""
    gathered: Callable[[], Tensor] | None = getattr(tensor, "full_tensor", None)
    return tensor if gathered is None else gathered()


def _label(name: str, kind: str, tensor: Tensor) -> bytes:
    """The name with its length, so that no two lists of tensors run into the same bytes."""
    written = name.encode("utf-8")
    shape = "x".join(map(str, tensor.shape))
    return b"%d %s %s [%s]\n" % (len(written), written, kind.encode("ascii"), shape.encode("ascii"))


def _little_endian(tensor: Tensor) -> memoryview:
    flat = tensor.detach().cpu().contiguous().reshape(-1)
    # numpy has no bfloat16: the bytes are looked at instead.
    raw = flat.view(torch.uint8).numpy()
    if sys.byteorder == "big":
        raw = np.ascontiguousarray(raw.reshape(-1, tensor.element_size())[:, ::-1])
    return raw.data
