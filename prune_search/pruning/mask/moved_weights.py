"""Weights that a criterion moved while it found a mask, kept so that the transform need not compute them again."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

# The place of the moved weights in what f1 hands on.
MOVED = "moved"


@dataclass(frozen=True, eq=False)
class MovedWeights:
    """What a criterion left, and what it follows from: where all of that is the same, so are the weights.

    Attributes:
        by: the settings of what moved them.
        score: the canonical score block, which says what data were seen.
        before: digest of the weights that were given (`weights_digest`).
        mask: digest of the mask that was found.
        weights: by name, on the CPU, before the mask is applied.
    """

    by: Any
    score: Any
    before: str
    mask: str
    weights: Mapping[str, Tensor]


def weights_digest(weights: Iterable[tuple[str, Tensor]]) -> str:
    """sha256 (hex) of names and bytes of tensors of any shape."""
    found = hashlib.sha256()
    for name, tensor in weights:
        found.update(f"{name} {list(tensor.shape)} {tensor.dtype}\n".encode())
        found.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())  # type: ignore[arg-type]
    return found.hexdigest()
