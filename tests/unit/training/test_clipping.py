"""The norm of the gradient, clipped as torch does it and by its own formula."""

from __future__ import annotations

import torch
from torch import nn

from prune_search.training.clipping import clipping


def gradients(scale: float) -> nn.Module:
    torch.manual_seed(0)
    model = nn.Linear(5, 3)
    for parameter in model.parameters():
        parameter.grad = scale * torch.randn(parameter.shape)
    return model


def test_a_norm_above_the_limit_becomes_the_limit_and_one_below_stays() -> None:
    for scale, limit in ((1.0, 0.5), (1e-3, 0.5), (100.0, 2.0)):
        model, other, before = gradients(scale), gradients(scale), gradients(scale)
        hook = clipping(list(model.parameters()), limit)
        assert hook.after_backward is not None
        hook.after_backward(0)
        nn.utils.clip_grad_norm_(other.parameters(), limit)
        norm = torch.cat([p.grad.flatten() for p in before.parameters() if p.grad is not None]).norm()
        factor = min(1.0, limit / float(norm))
        for one, two, three in zip(model.parameters(), other.parameters(), before.parameters(), strict=True):
            assert one.grad is not None
            assert two.grad is not None
            assert three.grad is not None
            assert torch.equal(one.grad, two.grad)
            torch.testing.assert_close(one.grad, factor * three.grad, rtol=1e-5, atol=0.0)


def test_parameters_without_a_gradient_are_left_alone() -> None:
    model = nn.Linear(5, 3)
    hook = clipping(list(model.parameters()), 1.0)
    assert hook.after_backward is not None
    hook.after_backward(0)
    assert all(parameter.grad is None for parameter in model.parameters())
