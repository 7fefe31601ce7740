"""Warnings before training about labels and outputs that are unusual but not wrong."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

MAX_NAMED = 10
SOFTMAX = "its outputs are probabilities, but cross-entropy takes logits: remove the softmax at the end"


def label_remarks(labels: Tensor, classes: int) -> Iterator[str]:
    """Sentences about the training labels.

    Args:
        labels: int64 [N], 0 … classes - 1.
        classes: how many there can be.
    """
    if classes == 1:
        yield "there is only one class, so every network is right: are these the intended labels?"
        return
    unused = (torch.bincount(labels, minlength=classes) == 0).nonzero().flatten().tolist()
    if unused == [0]:
        yield "the training labels begin at 1, so class 0 never occurs: subtract 1"
    elif unused:
        names = ", ".join(map(str, unused[:MAX_NAMED])) + (" …" if len(unused) > MAX_NAMED else "")
        yield f"of {classes} classes {len(unused)} never occur in the training labels: {names}"


def are_probabilities(scores: Tensor, dimension: int = 1) -> bool:
    """Whether scores [N, C] or [N, …, C, …] are distributions over several classes, as they are after a softmax."""
    if scores.dim() <= dimension or scores.shape[dimension] < 2 or not scores.is_floating_point():
        return False
    sums = scores.detach().float().sum(dim=dimension)
    return bool((scores >= 0).all()) and torch.allclose(sums, torch.ones_like(sums), atol=1e-4)
