"""The Wasserstein-1 distance of two sets of functions, by the critic that tells them apart best."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn
else:
    from prune_search.lazy import torch


@dataclass(frozen=True)
class CriticTraining:
    """How a critic is trained.

    Attributes:
        steps: of Adagrad, at least 1.
        rate: its learning rate, above 0.
        penalty: factor of the mean square of (norm of the gradient - 1).
        hidden: units of the hidden layers.
    """

    steps: int = 200
    rate: float = 0.01
    penalty: float = 10.0
    hidden: tuple[int, ...] = (200, 200)


def trained_critic(ours: Tensor, theirs: Tensor, how: CriticTraining, source: torch.Generator) -> nn.Sequential:
    """A function with slopes near 1 that is large on `ours` and small on `theirs`.

    The critic is a perceptron with softplus; its weights begin with Xavier's variance and its biases with variance 1,
    as in the released code of 2011.12829. Slopes are held near 1 by the penalty of Gulrajani et al. 2017, 1704.00028,
    eq. 3, at random points between pairs.

    Args:
        ours: functions at N inputs, [S, N]; left as they are.
        theirs: [S, N].
        how: it is trained.
        source: on the CPU, of its first weights and of the points between.
    """
    sizes = (ours.shape[1], *how.hidden, 1)
    layers: list[nn.Module] = []
    for fan_in, fan_out in pairwise(sizes):
        layer = torch.nn.Linear(fan_in, fan_out, device="meta").to_empty(device="cpu")
        with torch.no_grad():
            normal = torch.randn(layer.weight.shape, generator=source)
            layer.weight.copy_(normal * math.sqrt(2 / (fan_in + fan_out)))
            layer.bias.copy_(torch.randn(layer.bias.shape, generator=source))
        layers += [layer, torch.nn.Softplus()]
    critic, last = torch.nn.Sequential(*layers[:-1]), layers[-2]
    ours, theirs = ours.detach(), theirs.detach()
    with torch.no_grad():
        if critic(ours).mean() < critic(theirs).mean():
            # Its negative is a critic too. In one dimension the penalty would keep it from turning round.
            for parameter in last.parameters():
                parameter.neg_()
    optimizer = torch.optim.Adagrad(critic.parameters(), lr=how.rate, foreach=True)
    for _ in range(how.steps):
        share = torch.rand((len(ours), 1), generator=source)
        between = (share * ours + (1 - share) * theirs).requires_grad_(True)
        # All three in one pass, which halves the time of a step.
        at_between, at_ours, at_theirs = critic(torch.cat([between, ours, theirs])).split(len(ours))
        (slopes,) = torch.autograd.grad(at_between.sum(), between, create_graph=True)
        penalty = (slopes.norm(dim=1) - 1).square().mean()
        loss = how.penalty * penalty - (at_ours.mean() - at_theirs.mean())
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return critic.requires_grad_(False)


def distance(critic: nn.Module, ours: Tensor, theirs: Tensor) -> Tensor:
    """The critic's estimate of the distance, [] with a gradient for `ours`: E[φ(ours)] - E[φ(theirs)].

    On draws that the critic was not trained on it has no upward bias, and can be below 0 where the two are alike.

    Args:
        critic: of `trained_critic`.
        ours: functions, [S, N].
        theirs: [S, N].
    """
    value: Tensor = critic(ours).mean() - critic(theirs).mean()
    return value
