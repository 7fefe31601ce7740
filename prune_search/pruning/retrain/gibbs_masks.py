"""Random masks of a Gibbs distribution (Labach & Valaee 2020, Gibbs Pruning, 2006.04981).

p(x) = exp(-β H(x)) / Z over x in {-1, 1}ⁿ; a weight is kept where x = 1. Every weight has the field w² - Q, with Q the
quantile of the asked sparsity of the layer's units (of their mean w²), linearly interpolated.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Field:
    """What a layer's masks are drawn from.

    Attributes:
        field: w² - Q, float64 [units, n].
        beta: β, above 0.
        coupling: c.
        sweeps: of Gibbs sampling, where there is any.
        half: of the n weights of a unit, how many belong to the first half of its input channels.
    """

    field: Tensor
    beta: float
    coupling: float
    sweeps: int
    half: int


Draw = Callable[[tuple[int, ...]], Tensor]


def quantile(values: Tensor, share: float) -> Tensor:
    """The quantile of `values` [n] at a share from 0 to 1, linearly interpolated.

    Example:
        >>> quantile(torch.tensor([0.0, 1.0, 2.0, 3.0]), 0.5)
        tensor(1.5000)
    """
    ordered = torch.sort(values.reshape(-1)).values
    place = share * (ordered.numel() - 1)
    low = min(int(place), ordered.numel() - 1)
    high = min(low + 1, ordered.numel() - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (place - low)


def weights_alone(given: Field, draw: Draw) -> Tensor:
    """Every weight is kept with probability 1 / (1 + exp(-β (w² - Q))). As in the released code there is no factor 2.

    Args:
        given: what is drawn from.
        draw: from a shape to uniform draws in [0, 1), float64.

    Returns:
        bool [units, n].
    """
    return draw(tuple(given.field.shape)).to(given.field.device) < torch.sigmoid(given.beta * given.field)


def kernels(given: Field, draw: Draw) -> Tensor:
    """H(x) = Σ_i (Q - w_i²) x_i - c Σ_{i≠j} x_i x_j within each kernel, drawn exactly.

    The coupling depends on the number of kept weights alone. So the 2ⁿ states are summed by that number, as elementary
    symmetric polynomials of exp(2 β (w² - Q)); the number is drawn from their sums, and then one weight after the other
    given what is left of it. It is the distribution of the enumerated states, for kernels of any size.
    """
    field, size = given.beta * given.field, given.field.shape[1]
    sums = _log_symmetric(2 * field)
    numbers = torch.arange(size + 1, dtype=torch.float64, device=field.device)
    logits = sums[-1] + given.beta * given.coupling * (2 * numbers - size) ** 2
    rungs = torch.softmax(logits, 1).cumsum(1)
    uniform = draw((field.shape[0], size + 1)).to(field.device)
    left = (uniform[:, :1] >= rungs[:, :-1]).sum(1)
    kept = torch.zeros(field.shape, dtype=torch.bool, device=field.device)
    for place in range(size - 1, -1, -1):
        at = left.unsqueeze(1)
        with_it = sums[place].gather(1, (at - 1).clamp(min=0)).squeeze(1) + 2 * field[:, place]
        chance = torch.exp(with_it - sums[place + 1].gather(1, at).squeeze(1))
        # With as many to keep as weights are left all are kept, whatever the rounding says.
        kept[:, place] = (left > 0) & ((left > place) | (uniform[:, place + 1] < chance))
        left = left - kept[:, place].long()
    return kept


def _log_symmetric(logs: Tensor) -> list[Tensor]:
    """Per i from 0 to n the logarithms of the elementary symmetric polynomials of exp(logs[:, :i]): [units, n + 1]."""
    units, size = logs.shape
    first = torch.full((units, size + 1), -torch.inf, dtype=torch.float64, device=logs.device)
    first[:, 0] = 0.0
    found = [first]
    for place in range(size):
        after = found[-1].clone()
        after[:, 1:] = torch.logaddexp(found[-1][:, 1:], found[-1][:, :-1] + logs[:, place : place + 1])
        found.append(after)
    return found


def filters(given: Field, draw: Draw) -> Tensor:
    """The same field, each weight coupled with those of the other half of its filter's input channels.

    Given one half, the weights of the other are independent: they are kept with probability
    1 / (1 + exp(-β (w² - Q + c Σ_j x_j))), j in the other half. The halves are drawn in turn, `sweeps` times; at first
    all of the second half is kept where the filter's mean field is above 0, and nothing elsewhere.
    """
    field, half = given.field, given.half
    first, second = field[:, :half], field[:, half:]
    other = torch.where(field.mean(1, keepdim=True) > 0, 1.0, -1.0).double() * second.shape[1]
    here = there = torch.zeros(0)
    for _ in range(given.sweeps):
        here = draw(tuple(first.shape)).to(field.device) < torch.sigmoid(given.beta * (first + given.coupling * other))
        total = (2.0 * here.double() - 1.0).sum(1, keepdim=True)
        chance = torch.sigmoid(given.beta * (second + given.coupling * total))
        there = draw(tuple(second.shape)).to(field.device) < chance
        other = (2.0 * there.double() - 1.0).sum(1, keepdim=True)
    return torch.cat([here, there], 1)


# By the granularity whose units the Hamiltonian couples.
HAMILTONIANS: dict[str, Callable[[Field, Draw], Tensor]] = {
    "weight": weights_alone,
    "kernel": kernels,
    "filter": filters,
}
