"""The affine least-squares fit of 2001.10509, against what is known of it."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from prune_search.pruning.weights.affine_fit import Moments, affine_fit

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": torch.relu,
    "tanh": torch.tanh,
    "sine": lambda x: torch.sin(3 * x),
    "square": torch.square,
}


def draws(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def moments(x: Tensor, y: Tensor, batch: int = 64) -> Moments:
    found = Moments()
    for part, made in zip(torch.split(x, batch), torch.split(y, batch), strict=True):
        found.add(part, made)
    return found


def test_moments_are_those_of_all_pairs_together_however_large_the_means() -> None:
    x, y = draws(500, 6) + 1e6, draws(500, 3, seed=1) - 1e6
    found = moments(x, y)
    of_x, of_yx = found.covariances()
    both = torch.cov(torch.cat([x, y], 1).T, correction=0)
    torch.testing.assert_close(of_x, both[:6, :6], rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(of_yx, both[6:, :6], rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(found.means()[0], x.mean(0), rtol=1e-12, atol=0)
    assert found.count == 500
    with pytest.raises(ValueError, match="no pair"):
        Moments().means()


def test_linear_layers_fuse_exactly_but_for_the_ridge() -> None:
    x, first, second = draws(2000, 8), draws(12, 8, seed=1), draws(5, 12, seed=2)
    bias, other = draws(12, seed=3), draws(5, seed=4)
    y = (x @ first.T + bias) @ second.T + other
    weight, shift = affine_fit(moments(x, y), 1e-6)
    size = float((second @ first).norm())
    assert float((weight - second @ first).norm()) < 5e-6 * size
    torch.testing.assert_close(shift, second @ bias + other, rtol=1e-5, atol=1e-5)
    exact, shift = affine_fit(moments(x, y), 0.0)
    assert float((exact - second @ first).norm()) < 1e-12 * size
    torch.testing.assert_close(shift, second @ bias + other, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_what_the_fit_misses_has_no_mean_and_no_correlation_with_the_input(name: str) -> None:
    x = draws(1500, 6) @ draws(6, 6, seed=5) + 2
    y = ACTIVATIONS[name](x @ draws(9, 6, seed=1).T + draws(9, seed=2)) @ draws(4, 9, seed=3).T
    centred = x - x.mean(0)
    for ridge in (0.0, 1e-6):
        weight, bias = affine_fit(moments(x, y), ridge)
        missed = y - (x @ weight.T + bias)
        assert float(missed.mean(0).abs().max()) < 1e-9 * float(y.abs().max())
        # The ridge leaves exactly ρ W; without it nothing is left.
        left = missed.T @ centred / len(x) - ridge * weight
        assert float(left.abs().max()) < 1e-9 * float(y.abs().max())


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_no_other_affine_map_has_a_smaller_error(name: str) -> None:
    x = draws(800, 5)
    y = ACTIVATIONS[name](x @ draws(7, 5, seed=1).T) @ draws(3, 7, seed=2).T
    weight, bias = affine_fit(moments(x, y), 0.0)

    def error(w: Tensor, b: Tensor) -> float:
        return float((y - (x @ w.T + b)).square().mean())

    best = error(weight, bias)
    for seed in range(20):
        size = 10.0 ** -(seed % 4)
        other = error(weight + size * draws(3, 5, seed=10 + seed), bias + size * draws(3, seed=40 + seed))
        assert other > best


def test_of_gaussian_inputs_a_relu_is_as_the_share_of_them_that_it_passes() -> None:
    """Bussgang's theorem: C_{a₁a₀} C_{a₀}⁻¹ = diag(Φ(μ/σ)) W₁ for z = W₁ a₀ + b₁ of mean μ and deviation σ."""
    mix = torch.eye(6, dtype=torch.float64) + 0.2 * draws(6, 6, seed=1)
    first, bias, shift = draws(10, 6, seed=3), draws(10, seed=4), draws(6, seed=2)
    passed = 0.5 * (1 + torch.erf((first @ shift + bias) / (first @ mix).norm(dim=1) / math.sqrt(2)))
    wanted = passed[:, None] * first

    def missed(samples: int) -> float:
        x = draws(samples, 6) @ mix.T + shift
        weight, _ = affine_fit(moments(x, torch.relu(x @ first.T + bias), 5000), 1e-6)
        return float((weight - wanted).norm() / wanted.norm())

    # It is off by as much as the sample is: a tenth with a hundred times the examples.
    assert missed(5000) < 0.03
    assert missed(500_000) < 0.003


def test_a_constant_input_has_no_weight() -> None:
    x = torch.cat([draws(100, 2), torch.ones(100, 1, dtype=torch.float64)], 1)
    for ridge in (0.0, 1e-6):
        weight, bias = affine_fit(moments(x, x[:, :1] + 3), ridge)
        torch.testing.assert_close(weight, torch.tensor([[1.0, 0.0, 0.0]], dtype=torch.float64), rtol=0, atol=1e-5)
        torch.testing.assert_close(bias, torch.tensor([3.0], dtype=torch.float64), rtol=0, atol=1e-5)
