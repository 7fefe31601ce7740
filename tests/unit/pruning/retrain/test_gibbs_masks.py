"""Gibbs masks: the limits of their temperature and coupling, and enumeration against sampling."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from prune_search.pruning.retrain.gibbs_masks import HAMILTONIANS, Field, filters, kernels, quantile, weights_alone


def draws(seed: int) -> Callable[[tuple[int, ...]], Tensor]:
    random = torch.Generator().manual_seed(seed)
    return lambda shape: torch.rand(shape, generator=random, dtype=torch.float64)


def field_of(squares: Tensor, share: float, beta: float, coupling: float = 0.0, sweeps: int = 50) -> Field:
    level = quantile(squares.mean(1), share)
    return Field(squares - level, beta, coupling, sweeps, squares.shape[1] // 2)


def squares(units: int, size: int, seed: int = 0) -> Tensor:
    return torch.randn(units, size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).square()


def enumerated(field: Tensor, beta: float, coupled: Callable[[np.ndarray[Any, Any]], float]) -> dict[Any, float]:
    """exp(-β H) / Z of every state of one unit, H = -Σ field x - coupling."""
    states = list(itertools.product([-1, 1], repeat=len(field)))
    logs = np.array([beta * (float(np.dot(field.numpy(), x)) + coupled(np.array(x))) for x in states])
    weights = np.exp(logs - logs.max())
    return dict(zip(states, weights / weights.sum(), strict=True))


def variation(kept: Tensor, wanted: dict[Any, float]) -> float:
    """Total variation between the states that were drawn and a distribution."""
    seen: dict[Any, int] = {}
    for row in kept.tolist():
        state = tuple(1 if one else -1 for one in row)
        seen[state] = seen.get(state, 0) + 1
    return sum(abs(seen.get(state, 0) / len(kept) - chance) for state, chance in wanted.items()) / 2


def test_the_quantile_is_numpy_s() -> None:
    values = squares(37, 1)
    for share in (0.0, 0.1, 0.5, 0.9, 0.937, 1.0):
        assert float(quantile(values, share)) == pytest.approx(float(np.quantile(values.numpy(), share)), rel=1e-12)


@pytest.mark.parametrize("name", HAMILTONIANS)
def test_without_temperature_half_is_kept_and_at_none_what_magnitude_keeps(name: str) -> None:
    size = {"weight": 1, "kernel": 9, "filter": 18}[name]
    given = squares(4000 if size == 1 else 400, size)
    hot = HAMILTONIANS[name](field_of(given, 0.9, 1e-9), draws(0))
    assert float(hot.double().mean()) == pytest.approx(0.5, abs=0.03)
    cold = HAMILTONIANS[name](field_of(given, 0.9, 1e12), draws(0))
    level = float(np.quantile(given.mean(1).numpy(), 0.9))
    assert torch.equal(cold, given > level)
    if size == 1:
        assert float(1 - cold.double().mean()) == pytest.approx(0.9, abs=1e-3)


def test_uncoupled_weights_of_a_kernel_have_the_marginals_of_their_fields_with_the_factor_two() -> None:
    row = squares(1, 4) - 0.8
    kept = kernels(Field(row.expand(40_000, 4), 1.3, 0.0, 1, 2), draws(3)).double().mean(0)
    assert torch.allclose(kept, torch.sigmoid(2 * 1.3 * row[0]), atol=0.01)
    alone = weights_alone(Field(row.expand(40_000, 4), 1.3, 0.0, 1, 2), draws(3)).double().mean(0)
    assert torch.allclose(alone, torch.sigmoid(1.3 * row[0]), atol=0.01)


@pytest.mark.parametrize(("beta", "coupling"), [(0.7, 0.0), (0.7, 0.2), (2.0, 0.05)])
def test_kernels_are_drawn_from_the_enumerated_distribution(beta: float, coupling: float) -> None:
    row = squares(1, 5, seed=2) - 0.5

    def coupled(x: np.ndarray[Any, Any]) -> float:
        return coupling * sum(float(x[i] * x[j]) for i in range(5) for j in range(5) if i != j)

    wanted = enumerated(row[0], beta, coupled)
    kept = kernels(Field(row.expand(60_000, 5), beta, coupling, 1, 2), draws(4))
    assert variation(kept, wanted) < 0.015


def test_coupled_weights_of_a_kernel_become_the_same() -> None:
    given = squares(600, 9)

    def same(coupling: float) -> float:
        kept = kernels(field_of(given, 0.5, 0.5, coupling), draws(5)).double().mean(1)
        return float(((kept == 0) | (kept == 1)).double().mean())

    found = [same(coupling) for coupling in (0.0, 0.05, 0.2, 2.0)]
    assert found == sorted(found)
    assert found[0] < 0.1
    assert found[-1] == 1.0


def test_large_kernels_and_low_temperatures_are_drawn_without_overflow() -> None:
    kept = kernels(field_of(10 * squares(50, 49), 0.9, 1e8, 1.0), draws(6)).double().mean(1)
    assert bool(((kept == 0) | (kept == 1)).all())


def test_the_halves_of_a_filter_are_drawn_in_turn_from_their_distribution() -> None:
    """With the released code's chance 1 / (1 + exp(-β …)), stationary is exp(β/2 (Σ field x + c Σ x_i x_j))."""
    row, beta, coupling = squares(1, 4, seed=7) - 0.6, 0.8, 0.3
    wanted = enumerated(row[0], beta / 2, lambda x: coupling * float(x[:2].sum() * x[2:].sum()))
    kept = filters(Field(row.expand(60_000, 4), beta, coupling, 60, 2), draws(8))
    assert variation(kept, wanted) < 0.015
