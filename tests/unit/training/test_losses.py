"""Losses against their definitions."""

from __future__ import annotations

import math

import pytest
import torch

from prune_search.recipe.axes import LOSSES

LOGITS = torch.tensor([[1.0, 2.0, 0.5], [-1.0, 0.0, 3.0]])
LABELS = torch.tensor([1, 0])


def test_cross_entropy_is_the_mean_surprise() -> None:
    first = -math.log(math.exp(2.0) / (math.exp(1.0) + math.exp(2.0) + math.exp(0.5)))
    second = -math.log(math.exp(-1.0) / (math.exp(-1.0) + 1.0 + math.exp(3.0)))
    loss = LOSSES["cross-entropy"].make(LOGITS, LABELS)
    assert loss.shape == ()
    assert loss.item() == pytest.approx((first + second) / 2)


def test_nll_logits_takes_the_logits_for_log_probabilities() -> None:
    logits = LOGITS.clone().requires_grad_()
    loss = LOSSES["nll-logits"].make(logits, LABELS)
    loss.backward()  # type: ignore[no-untyped-call]
    assert loss.item() == pytest.approx(-(2.0 - 1.0) / 2)
    assert logits.grad is not None
    assert logits.grad.tolist() == [[0.0, -0.5, 0.0], [-0.5, 0.0, 0.0]]


@pytest.mark.parametrize("name", sorted(name for name, entry in LOSSES.items() if not entry.facts.taught))
def test_precision_is_not_lost(name: str) -> None:
    half = LOSSES[name].make(LOGITS.bfloat16(), LABELS)
    assert half.dtype == torch.float32
    assert half.item() == pytest.approx(LOSSES[name].make(LOGITS, LABELS).item())
    assert LOSSES[name].make(LOGITS.double(), LABELS).dtype == torch.float64
