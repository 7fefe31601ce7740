"""Losses: what training minimises and criteria differentiate."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prune_search.recipe.axes import LOSSES

if TYPE_CHECKING:
    import torch
    from torch import Tensor
else:
    from prune_search.lazy import torch


@LOSSES.register("cross-entropy", summary="mean cross-entropy of the softmax of the logits", source="common practice")
def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """The mean of -log softmax(logits)[label].

    Args:
        logits: [B, classes], floating point; 16-bit logits are widened to float32 first.
        labels: [B], int64 in 0 … classes - 1.

    Returns:
        A scalar, in nats.
    """
    return torch.nn.functional.cross_entropy(_widened(logits), labels)


@LOSSES.register(
    "nll-logits",
    summary="minus the mean logit of the correct class, without softmax, as two published implementations do",
    source="the released code of de Jorge et al. 2020, arXiv 2006.09081 (naver/force); mil-ad/snip",
)
def nll_logits(logits: Tensor, labels: Tensor) -> Tensor:
    """The mean of -logits[label].

    The released code of FORCE (naver/force, pruning/pruning_algos.py) and the SNIP of mil-ad/snip (snip.py) score with
    ``F.nll_loss`` on networks that end in a linear layer and have no log-softmax. It is here so that their masks can be
    had; it is unbounded below and no loss to train with.

    Args:
        logits: [B, classes], floating point; 16-bit logits are widened to float32 first.
        labels: [B], int64 in 0 … classes - 1.

    Returns:
        A scalar, in units of the logits.
    """
    return torch.nn.functional.nll_loss(_widened(logits), labels)


def _widened(logits: Tensor) -> Tensor:
    """A mean over a batch in 16 bits would lose most of its digits."""
    return logits.float() if logits.dtype in (torch.bfloat16, torch.float16) else logits
