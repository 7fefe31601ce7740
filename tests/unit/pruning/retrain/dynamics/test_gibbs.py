"""Gibbs masks: the limits of their temperature and coupling, enumeration against sampling, and the dynamics itself."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from prune_search import Dynamics, UserError, find_mask
from prune_search.pruning.retrain.gibbs_masks import HAMILTONIANS, Field, filters, kernels, quantile, weights_alone

X = torch.randn(8, 2, 6, 6, generator=torch.Generator().manual_seed(1))
Y = torch.arange(8) % 3


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


# --- the dynamics ---------------------------------------------------------------------------------------------------


def network() -> nn.Module:
    torch.manual_seed(4)
    return nn.Sequential(nn.Conv2d(2, 6, 3), nn.ReLU(), nn.Flatten(), nn.Linear(96, 3))


BETA = {"from": 1.0, "to": 1e6, "until": "20it", "every": "4it"}


@pytest.mark.parametrize("granularity", ["weight", "kernel", "filter"])
def test_the_forward_pass_sees_masks_the_weights_are_whole_and_the_end_is_deterministic(granularity: str) -> None:
    model, twin = network(), network()
    optimizer, plain = (torch.optim.SGD(m.parameters(), 0.05, momentum=0.9, weight_decay=1e-3) for m in (model, twin))
    dynamics = Dynamics(
        "gibbs",
        model,
        optimizer,
        sparsity=0.5,
        scope="uniform",
        granularity=granularity,
        steps=30,
        hamiltonian=granularity,
        coupling=0.01,
        beta=BETA,
        example_input=X,
    )
    kept = []
    for i in range(30):
        model.zero_grad()
        nn.functional.cross_entropy(model(X), Y).backward()  # type: ignore[no-untyped-call]
        masks = {name: parameter.detach() != 0 for name, parameter in model.named_parameters() if "weight" in name}
        kept.append(float(masks["0.weight"].double().mean()))
        dynamics.step(i)
        # The same by hand: the gradient of w ⊙ m, times m.
        whole = {name: parameter.detach().clone() for name, parameter in twin.named_parameters()}
        with torch.no_grad():
            for name, parameter in twin.named_parameters():
                if name in masks:
                    parameter.mul_(masks[name])
        twin.zero_grad()
        nn.functional.cross_entropy(twin(X), Y).backward()  # type: ignore[no-untyped-call]
        with torch.no_grad():
            for name, parameter in twin.named_parameters():
                parameter.copy_(whole[name])
                assert parameter.grad is not None
                parameter.grad.mul_(masks.get(name, torch.tensor(True)))
        plain.step()
        for ours, other in zip(model.parameters(), twin.parameters(), strict=True):
            assert torch.allclose(ours, other, atol=1e-6)
            assert bool((ours != 0).all())
    assert 0.2 < kept[0] < 0.8
    wanted = find_mask(model, "l2", 0.5, "uniform", granularity, example_input=X)
    mask = dynamics.finish()
    assert mask.sha256 == wanted.sha256
    assert mask.receipt().units_kept == mask.receipt().units_asked
    for name, one in mask.items():
        assert bool((model.get_parameter(name)[~one] == 0).all())
    handles = len(model._forward_pre_hooks)
    assert handles == 0


def test_masks_are_functions_of_seed_and_step_alone() -> None:
    def first_mask(seed: int, steps: int) -> Tensor:
        model = network()
        optimizer = torch.optim.SGD(model.parameters(), 0.0)
        dynamics = Dynamics("gibbs", model, optimizer, sparsity=0.5, scope="uniform", steps=30, seed=seed, beta=BETA)
        for i in range(steps):
            model.zero_grad()
            model(X).sum().backward()
            dynamics.step(i)
        model(X)
        return model.get_parameter("0.weight").detach() != 0

    assert torch.equal(first_mask(0, 1), first_mask(0, 1))
    assert not torch.equal(first_mask(0, 1), first_mask(0, 2))
    assert not torch.equal(first_mask(0, 1), first_mask(1, 1))


@pytest.mark.parametrize("last", [None, "before", "at"])
def test_beta_is_held_and_reaches_its_end_where_it_was_asked(last: str | None) -> None:
    """The released code takes numpy.logspace with as many values as there are intervals; a recipe of 0.1 one more."""
    from prune_search.pruning.retrain.dynamics.gibbs import _Sampler

    model = network()
    beta = BETA if last is None else {**BETA, "last": last}
    dynamics = Dynamics(
        "gibbs", model, torch.optim.SGD(model.parameters(), 0.1), sparsity=0.5, scope="uniform", steps=30, beta=beta
    )
    sampler = getattr(dynamics._hooks[0].before_step, "__self__", None)
    assert isinstance(sampler, _Sampler)
    values = np.logspace(0, 6, num=6 if last == "at" else 5)
    assert [sampler.beta(step) for step in range(20)] == pytest.approx(np.repeat(values[:5], 4), rel=1e-12)
    assert [sampler.beta(step) for step in (20, 29)] == [1e6, 1e6]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"hamiltonian": "kernel"}, "mask.granularity must be kernel"),
        ({"scope": "global"}, "scope: must be uniform"),
        ({"beta": {"until": "31it"}}, "beta.until: 31it is past the end"),
        ({"beta": {"to": 0.0}}, "beta.to: must be a number > 0"),
        ({"beta": {"too": 1.0}}, "did you mean 'to'"),
        ({"finish": "sampled"}, "finish"),
    ],
)
def test_what_makes_no_sense_is_refused_in_one_line(options: dict[str, Any], said: str) -> None:
    model = network()
    given = {"scope": "uniform", **options}
    with pytest.raises(UserError, match=said):
        Dynamics("gibbs", model, torch.optim.SGD(model.parameters(), 0.1), sparsity=0.5, steps=30, **given)
