"""The L1 penalty on the scales of batch norms under which network slimming and Early-Bird train."""

from __future__ import annotations

import torch
from torch import nn

from prune_search.training.loop import Hook


def batchnorm_scales(model: nn.Module) -> list[nn.Parameter]:
    """The trained scales of a network's batch norms, [channels] each."""
    norms = (module for module in model.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm))
    return [norm.weight for norm in norms if norm.affine and norm.weight.requires_grad]


def batchnorm_penalty(model: nn.Module, strength: float) -> Hook:
    """Adds s · sign(γ), the subgradient of s · Σ|γ|, to the gradients of all scales before every update.

    Args:
        model: the network.
        strength: s, at least 0.

    Source:
        Liu et al. 2017, Learning Efficient Convolutional Networks through Network Slimming, 1708.06519, eq. 1.
    """
    scales = batchnorm_scales(model)

    def after_backward(step: int) -> None:
        for scale in scales:
            if scale.grad is not None:
                scale.grad.add_(torch.sign(scale.detach()), alpha=strength)

    return Hook("batchnorm-penalty", after_backward=after_backward)
