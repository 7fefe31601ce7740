"""The edge of chaos: the weight variance at which signals neither vanish nor explode with depth, by mean field.

In a wide network with weights N(0, σ_w² / fan-in) and biases N(0, σ_b²) the mean square of a layer's inputs tends to a
fixed point q = σ_b² + σ_w² E[φ(√q Z)²], and the gradient's mean square changes by χ = σ_w² E[φ'(√q Z)²] per layer. On
the edge χ is 1 (Schoenholz et al. 2017, 1611.01232; Hayou et al. 2019, 1902.06853).

Expectations are Gauss sums on narrow panels of each half-line. For smooth activations Gauss–Hermite nodes give the same
to ten digits; with kinks (ELU at 0, a hard tanh at ±1) those would be off in the third.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

from prune_search.recipe.problems import Problem, UserError

if TYPE_CHECKING:
    import torch
    from torch import Tensor
else:
    from prune_search.lazy import torch

WIDEST, PANELS, ORDER = 12.0, 240, 8
SMALLEST, LARGEST, SCANNED = 1e-6, 1e2, 120

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": lambda x: torch.relu(x),
    "leaky-relu": lambda x: torch.nn.functional.leaky_relu(x),
    "elu": lambda x: torch.nn.functional.elu(x),
    "selu": lambda x: torch.selu(x),
    "gelu": lambda x: torch.nn.functional.gelu(x),
    "silu": lambda x: torch.nn.functional.silu(x),
    "mish": lambda x: torch.nn.functional.mish(x),
    "softplus": lambda x: torch.nn.functional.softplus(x),
    "sigmoid": lambda x: torch.sigmoid(x),
    "tanh": lambda x: torch.tanh(x),
    "hard-tanh": lambda x: torch.nn.functional.hardtanh(x),
    "erf": lambda x: torch.erf(x),
    "sin": lambda x: torch.sin(x),
    "identity": lambda x: x,
}


@dataclass(frozen=True)
class Edge:
    """A point on the edge of chaos.

    Attributes:
        sigma_w: √fan-in times the standard deviation of weights.
        sigma_b: standard deviation of biases.
        q: mean square of a layer's inputs at the fixed point; 1 where every q is one (homogeneous activations).
    """

    sigma_w: float
    sigma_b: float
    q: float


@cache
def _nodes() -> tuple[Tensor, Tensor]:
    """Nodes and weights of E[f(Z)], Z standard normal: Gauss–Legendre on panels, which have an edge at 0."""
    # Golub & Welsch: nodes are the eigenvalues of the Jacobi matrix of the Legendre polynomials on [-1, 1].
    n = torch.arange(1, ORDER, dtype=torch.float64)
    off = n / (4 * n * n - 1).sqrt()
    values, vectors = torch.linalg.eigh(torch.diag(off, 1) + torch.diag(off, -1))
    width = WIDEST / PANELS
    middles = (torch.arange(PANELS, dtype=torch.float64) + 0.5) * width
    half = (middles[:, None] + values * width / 2).flatten()
    density = torch.exp(-half.square() / 2) / math.sqrt(2 * math.pi)
    weights = density * (vectors[0].square() * width).repeat(PANELS)
    return torch.cat([-half, half]), torch.cat([weights, weights])


def mean_squares(activation: Callable[[Tensor], Tensor], q: float) -> tuple[float, float]:
    """(E[φ(√q Z)²], E[φ'(√q Z)²]).

    Args:
        activation: φ, elementwise on a tensor, differentiable by torch.
        q: at least 0.
    """
    z, weights = _nodes()
    with torch.enable_grad():
        x = (math.sqrt(q) * z).requires_grad_(True)
        value = activation(x)
        (slope,) = torch.autograd.grad(value.sum(), x)
    return float((weights * value.detach().square()).sum()), float((weights * slope.square()).sum())


def edge_of_chaos(activation: Callable[[Tensor], Tensor], sigma_b: float) -> Edge:
    """The σ_w of an activation and a σ_b at which χ is 1 at the fixed point of q.

    For each q there is one σ_w² = 1 / E[φ'²]; the q that this σ_w and σ_b reproduce is looked for, from 1e-6 to 100. Of
    several the smallest to which the layers lead is taken; where only q = 0 is left (tanh without biases), that limit.

    Raises:
        UserError: there is none (ReLU with biases, say).

    Example:
        ReLU without biases: σ_w = √2, whatever q is: He's initialization.
    """

    def gap(q: float) -> float:
        value, slope = mean_squares(activation, q)
        return (sigma_b**2 + value / slope - q) / q if slope > 0 else math.inf

    places = [SMALLEST * (LARGEST / SMALLEST) ** (i / (SCANNED - 1)) for i in range(SCANNED)]
    gaps = [gap(q) for q in places]
    if all(abs(found) < 1e-9 for found in gaps):
        return Edge(1 / math.sqrt(mean_squares(activation, 1.0)[1]), sigma_b, 1.0)
    roots = [
        _between(gap, places[i], places[i + 1])
        for i in range(SCANNED - 1)
        if gaps[i] > 0 >= gaps[i + 1] or _up(gaps, i)
    ]
    for q in roots:
        variance = 1 / mean_squares(activation, q)[1]
        step = 1e-4 * q
        rise = variance * (mean_squares(activation, q + step)[0] - mean_squares(activation, q - step)[0]) / (2 * step)
        if abs(rise) <= 1 + 1e-6:
            return Edge(math.sqrt(variance), sigma_b, q)
    value, slope = mean_squares(activation, 0.0)
    if sigma_b == 0.0 and value == 0.0 and slope > 0.0 and gaps[0] <= 0.0:
        return Edge(1 / math.sqrt(slope), 0.0, 0.0)
    text = f"this activation has no edge of chaos with sigma_b {sigma_b:g}: no weight variance preserves both signals"
    raise UserError([Problem("sigma_b", text, form=False)])


def _up(gaps: list[float], index: int) -> bool:
    """Whether the gap rises through 0 after a place."""
    return gaps[index] < 0 <= gaps[index + 1]


def _between(gap: Callable[[float], float], low: float, high: float) -> float:
    """The place between two where the gap is 0, by bisection."""
    falls = gap(low) > 0
    for _ in range(80):
        middle = math.sqrt(low * high)
        if (gap(middle) > 0) is falls:
            low = middle
        else:
            high = middle
    return math.sqrt(low * high)


@cache
def known_edge(activation: str, sigma_b: float) -> Edge:
    """`edge_of_chaos` of a named activation."""
    return edge_of_chaos(ACTIVATIONS[activation], sigma_b)
