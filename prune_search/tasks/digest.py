"""The sha256 of tensors, identical on all machines of the same byte order."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import torch
from torch import Tensor


def ordered_tensors_digest(named: Iterable[tuple[str, Tensor]]) -> str:
    """The sha256 (hex) of the names, shapes, dtypes and bytes of tensors, in the order given.

    Strides, device and memory format do not count; -0.0 and 0.0 differ, as their bytes do.
    """
    sha = hashlib.sha256()
    for name, tensor in named:
        # Flat first: a tensor without dimensions cannot be viewed as bytes. Bytes, because numpy knows no bfloat16.
        flat = tensor.detach().cpu().contiguous().reshape(-1)
        sha.update(f"{name!r} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        if flat.numel():
            sha.update(flat.resolve_conj().resolve_neg().view(torch.uint8).numpy().data)
    return sha.hexdigest()
