"""The sha256 of tensors, identical on all machines of the same byte order."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import torch
from torch import Tensor

# A tensor's name, type and shape [N, ...], and its parts along the first dimension.
Part = tuple[str, torch.dtype, tuple[int, ...], Iterable[Tensor]]


def ordered_tensors_digest(named: Iterable[tuple[str, Tensor]]) -> str:
    """The sha256 (hex) of the names, shapes, dtypes and bytes of tensors, in the order given.

    Strides, device and memory format do not count; -0.0 and 0.0 differ, as their bytes do.
    """
    return ordered_parts_digest((name, tensor.dtype, tuple(tensor.shape), (tensor,)) for name, tensor in named)


def ordered_parts_digest(named: Iterable[Part]) -> str:
    """The same of tensors that are given in parts, one after another, so that none has to be in memory as a whole."""
    sha = hashlib.sha256()
    for name, dtype, shape, parts in named:
        sha.update(f"{name!r} {dtype} {shape}\n".encode())
        for tensor in parts:
            # Flat first: a tensor without dimensions cannot be viewed as bytes. Bytes, because numpy knows no bfloat16.
            flat = tensor.detach().cpu().contiguous().reshape(-1)
            if flat.numel():
                sha.update(flat.resolve_conj().resolve_neg().view(torch.uint8).numpy().data)
    return sha.hexdigest()
