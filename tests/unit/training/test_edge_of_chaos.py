"""The edge of chaos: closed forms, Gauss–Hermite sums, and what really happens to signals and scores with depth."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from prune_search.recipe.axes import INITS
from prune_search.recipe.problems import UserError
from prune_search.tasks.network import prunable_weights
from prune_search.training.edge_of_chaos import ACTIVATIONS, known_edge, mean_squares

DEVICE = torch.device("cpu")


def hermite(function: Callable[[np.ndarray[Any, Any]], np.ndarray[Any, Any]]) -> float:
    """E[f(Z)] by numpy's Gauss–Hermite nodes."""
    z, w = np.polynomial.hermite_e.hermegauss(100)
    return float((w * function(z)).sum() / w.sum())


def test_relu_without_biases_is_he_s_initialization_and_with_biases_has_no_edge() -> None:
    assert known_edge("relu", 0.0).sigma_w == pytest.approx(math.sqrt(2), rel=1e-12)
    assert known_edge("leaky-relu", 0.0).sigma_w == pytest.approx(math.sqrt(2 / (1 + 0.01**2)), rel=1e-12)
    with pytest.raises(UserError, match="no edge of chaos"):
        known_edge("relu", 0.1)


@pytest.mark.parametrize("sigma_b", [0.1, 0.3])
def test_erf_has_a_closed_form(sigma_b: float) -> None:
    """E[erf(√q Z)²] = (2/π) asin(2q / (1 + 2q)) (Williams 1997), E[erf'²] = (4/π) / √(1 + 4q)."""
    edge = known_edge("erf", sigma_b)
    assert edge.sigma_w**2 * 4 / math.pi / math.sqrt(1 + 4 * edge.q) == pytest.approx(1.0, rel=1e-9)
    value = 2 / math.pi * math.asin(2 * edge.q / (1 + 2 * edge.q))
    assert sigma_b**2 + edge.sigma_w**2 * value == pytest.approx(edge.q, rel=1e-9)


def test_tanh_s_edge_is_the_known_one_and_fulfils_both_equations_by_gauss_hermite_sums() -> None:
    """Schoenholz et al. 2017: σ_b² = 0.05 and σ_w² = 1.76 are critical."""
    edge = known_edge("tanh", math.sqrt(0.05))
    assert edge.sigma_w**2 == pytest.approx(1.76, abs=0.005)
    root = math.sqrt(edge.q)
    chi = edge.sigma_w**2 * hermite(lambda z: (1 - np.tanh(root * z) ** 2) ** 2)
    again = 0.05 + edge.sigma_w**2 * hermite(lambda z: np.tanh(root * z) ** 2)
    assert chi == pytest.approx(1.0, abs=1e-6)
    assert again == pytest.approx(edge.q, abs=1e-6)
    assert known_edge("tanh", 0.0).sigma_w == pytest.approx(1.0)


def test_expectations_with_a_kink_are_exact_too() -> None:
    for q in (0.01, 1.0, 30.0):
        value, slope = mean_squares(ACTIVATIONS["relu"], q)
        assert value == pytest.approx(q / 2, rel=1e-10)
        assert slope == pytest.approx(0.5, rel=1e-10)
    # ELU: E[φ'²] = 1/2 + e^{2q} Φ(-2√q).
    below = math.exp(2.0) * 0.5 * math.erfc(2 / math.sqrt(2))
    assert mean_squares(ACTIVATIONS["elu"], 1.0)[1] == pytest.approx(0.5 + below, rel=1e-9)


@pytest.mark.parametrize("name", ["elu", "selu", "gelu", "silu", "mish", "hard-tanh", "sin", "sigmoid"])
def test_every_activation_s_edge_fulfils_its_equations(name: str) -> None:
    edge = known_edge(name, 0.0)
    value, slope = mean_squares(ACTIVATIONS[name], edge.q)
    assert edge.sigma_w**2 * slope == pytest.approx(1.0, abs=1e-6)
    assert edge.sigma_w**2 * value == pytest.approx(edge.q, abs=1e-4)


def deep(kind: type[nn.Module], depth: int, width: int, **init: Any) -> nn.Module:
    layers: list[nn.Module] = []
    for _ in range(depth):
        layers += [nn.Linear(width, width), kind()]
    model = nn.Sequential(*layers, nn.Linear(width, 10))
    INITS["edge-of-chaos"].make(model, 1, **{"sigma_b": 0.0, "activation": "relu", "multiplier": 1.0, **init})
    return model


def test_the_initializer_draws_the_variances_that_it_says() -> None:
    sigma_b = math.sqrt(0.05)
    model = deep(nn.Tanh, 2, 400, sigma_b=sigma_b, activation="tanh", multiplier=0.5)
    first = model.get_parameter("0.weight")
    assert float(first.detach().square().mean()) * 400 == pytest.approx(0.25 * 1.761, rel=0.02)
    biases = torch.cat([model.get_parameter("0.bias"), model.get_parameter("2.bias")])
    assert float(biases.detach().square().mean()) == pytest.approx(0.05, rel=0.2)
    he = deep(nn.ReLU, 1, 30)
    plain = nn.Sequential(nn.Linear(30, 30), nn.ReLU(), nn.Linear(30, 10))
    INITS["kaiming"].make(plain, 1)
    assert torch.allclose(he.get_parameter("0.weight"), plain.get_parameter("0.weight"), rtol=1e-6)


def slope_of_log_scores(multiplier: float) -> float:
    """How log mean (w · dL/dw)² changes per layer, by least squares over the depth."""
    sigma_b, depth = math.sqrt(0.05), 24
    model = deep(nn.Tanh, depth, 150, sigma_b=sigma_b, activation="tanh", multiplier=multiplier).double()
    x = torch.randn(64, 150, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    loss = nn.functional.cross_entropy(model(x), torch.arange(64) % 10)
    weights = list(prunable_weights(model).values())[1:-1]
    scores = [
        float((w * g).detach().square().mean().log())
        for w, g in zip(weights, torch.autograd.grad(loss, weights), strict=True)
    ]
    return float(np.polyfit(np.arange(len(scores)), scores, 1)[0])


def test_scores_are_flat_over_depth_on_the_edge_and_exponential_off_it() -> None:
    """Hayou et al. 2021, theorem 1; for tanh (with ReLU the product of both signals is the same in every layer)."""
    on, ordered, chaotic = (slope_of_log_scores(multiplier) for multiplier in (1.0, 0.6, 2.0))
    assert abs(on) < 0.06
    assert ordered > 0.5
    assert chaotic < -0.2


class Residual(nn.Module):
    """y ← y + scale · W relu(y), many times."""

    def __init__(self, blocks: int, width: int, scale: float) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(nn.Linear(width, width) for _ in range(blocks))
        self.out = nn.Linear(width, 10)
        self.scale = scale

    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x = x + self.scale * block(torch.relu(x))
        scores: Tensor = self.out(x)
        return scores


def test_the_root_of_the_depth_keeps_signals_and_gradients_of_residual_networks_of_one_size() -> None:
    """Hayou et al. 2021, theorem 3: without it the signal doubles per block, with it it grows e-fold."""
    growth = {}
    for scaled in (False, True):
        depth = 40
        model = Residual(depth, 100, depth**-0.5 if scaled else 1.0)
        INITS["edge-of-chaos"].make(model, 1, sigma_b=0.0, activation="relu", multiplier=1.0)
        x = torch.randn(32, 100, generator=torch.Generator().manual_seed(1))
        hidden = x
        with torch.no_grad():
            for block in model.blocks:
                hidden = hidden + model.scale * block(torch.relu(hidden))
        growth[scaled] = float(hidden.square().mean() / x.square().mean())
    assert growth[False] > 1e6
    assert 1.0 < growth[True] < 2 * math.e
