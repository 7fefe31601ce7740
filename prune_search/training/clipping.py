"""Clipping the norm of the gradient."""

from __future__ import annotations

from torch import nn

from prune_search.training.loop import Hook


def clipping(model: nn.Module, limit: float) -> Hook:
    """Scales the gradient of all parameters down where its norm is above a limit. It comes last of all hooks.

    Args:
        model: the network.
        limit: the largest L2 norm over all parameters together, above 0.

    Source:
        Pascanu, Mikolov, Bengio 2012, On the difficulty of training recurrent neural networks, 1211.5063, algorithm 1.
    """
    parameters = list(model.parameters())
    return Hook("clip", after_backward=lambda step: _clip(parameters, limit))


def _clip(parameters: list[nn.Parameter], limit: float) -> None:
    nn.utils.clip_grad_norm_(parameters, limit)
