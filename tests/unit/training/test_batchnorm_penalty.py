"""The L1 penalty on the scales of batch norms."""

from __future__ import annotations

import torch
from torch import nn

from prune_search.training.batchnorm_penalty import batchnorm_penalty, batchnorm_scales


def test_only_trained_scales_are_drawn_to_zero_by_the_subgradient() -> None:
    model = nn.Sequential(nn.Conv2d(1, 3, 1), nn.BatchNorm2d(3), nn.BatchNorm2d(3, affine=False), nn.BatchNorm2d(3))
    frozen, trained = model[3], model[1]
    assert isinstance(frozen, nn.BatchNorm2d)
    assert isinstance(trained, nn.BatchNorm2d)
    frozen.weight.requires_grad_(False)
    assert batchnorm_scales(model) == [trained.weight]
    with torch.no_grad():
        trained.weight.copy_(torch.tensor([2.0, -0.5, 0.0]))
    hook = batchnorm_penalty(model, 0.1)
    assert hook.after_backward is not None
    # Without a gradient there is nothing to add to.
    hook.after_backward(0)
    assert trained.weight.grad is None
    trained.weight.grad = torch.ones(3)
    hook.after_backward(1)
    torch.testing.assert_close(trained.weight.grad, torch.tensor([1.1, 0.9, 1.0]))
    assert model[0].weight.grad is None
