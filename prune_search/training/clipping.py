"""Clipping the norm of the gradient."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from prune_search.training.loop import Hook


def clipping(parameters: Sequence[nn.Parameter], limit: float) -> Hook:
    """Scales the gradient of parameters down where its norm is above a limit. It comes last of all hooks.

    Args:
        parameters: of the network, or what is trained in their place.
        limit: the largest L2 norm over all parameters together, above 0.

    Source:
        Pascanu, Mikolov, Bengio 2012, On the difficulty of training recurrent neural networks, 1211.5063, algorithm 1.
    """
    return Hook("clip", after_backward=lambda step: _clip(parameters, limit))


def _clip(parameters: Sequence[nn.Parameter], limit: float) -> None:
    nn.utils.clip_grad_norm_(parameters, limit)
