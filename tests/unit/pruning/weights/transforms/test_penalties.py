"""Growing regularization: the penalty's every value, its stops, and where it drives the weights."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from prune_search.pruning.weights.transforms.penalties import GrowingHook, Penalty, Ramp

RAMPS = [("0", "1e-4", 10, "1"), ("0", "1e-2", 1, "1"), ("0.01", "1e-4", 5, "0.0205"), ("0", "0.3", 3, "1")]


def ramp(start: str, step: str, every: int, ceiling: str) -> Ramp:
    return Ramp(Decimal(start), Decimal(step), every, Decimal(ceiling))


@pytest.mark.parametrize(("start", "step", "every", "ceiling"), RAMPS)
def test_the_penalty_is_exact_at_every_iteration(start: str, step: str, every: int, ceiling: str) -> None:
    """λ(t) = min(λ0 + δ (⌊t / K_u⌋ + 1), τ): summed in floats it would be off after a few hundred increments."""
    found = ramp(start, step, every, ceiling)
    edges = (t for k in range(found.updates + 3) for t in sorted({k * every, (k + 1) * every - 1}))
    for t in edges:
        wanted = min(Fraction(start) + Fraction(step) * (t // every + 1), Fraction(ceiling))
        assert Fraction(found.at(t)) == wanted
    assert found.at(found.iterations - 1) == Decimal(ceiling)
    assert found.iterations == every or found.at(found.iterations - every - 1) < Decimal(ceiling)


def test_the_paper_s_ramp_takes_ten_thousand_increments() -> None:
    assert ramp("0", "1e-4", 10, "1").updates == 10_000
    assert ramp("0", "1e-4", 10, "1").iterations == 100_000
    assert ramp("0", "1e-5", 10, "1e-2").updates == 1000


def test_a_penalty_that_begins_at_its_ceiling_does_not_grow() -> None:
    found = ramp("0.5", "0.1", 10, "0.5")
    assert (found.updates, found.iterations, found.at(0), found.at(999)) == (0, 0, Decimal("0.5"), Decimal("0.5"))


def test_a_penalty_adds_lambda_times_the_weight_to_the_gradient() -> None:
    weight = nn.Parameter(torch.tensor([[1.0, -2.0], [3.0, 4.0]]))
    idle = nn.Parameter(torch.ones(2))
    penalty = Penalty({"w": weight, "idle": idle})
    penalty.set("w", torch.tensor([[True, False], [True, False]]), 0.5, -0.25)
    penalty.set("idle", torch.ones(2, dtype=torch.bool), 1.0, 0.0)
    weight.grad = torch.full((2, 2), 10.0)
    penalty.add_to_gradients()
    assert weight.grad.tolist() == [[10.5, 10.5], [11.5, 9.0]]
    assert idle.grad is None
    assert weight.tolist() == [[1.0, -2.0], [3.0, 4.0]]


@pytest.mark.parametrize("strength", [0.01, 0.3, 2.0])
def test_held_long_enough_a_quadratic_ends_where_the_theory_says(strength: float) -> None:
    """Wang et al. 2021, section 3.3: argmin ½ (w - w*)ᵀ H (w - w*) + ½ λ |w|² is (H + λI)⁻¹ H w*."""
    source = torch.Generator().manual_seed(0)
    root = torch.randn(6, 6, dtype=torch.float64, generator=source)
    hessian = root @ root.T / 6 + 0.5 * torch.eye(6, dtype=torch.float64)
    optimum = torch.randn(6, dtype=torch.float64, generator=source)
    weight = nn.Parameter(optimum.clone())
    optimizer = torch.optim.SGD([weight], lr=0.15)
    penalty = Penalty({"w": weight})
    penalty.set("w", torch.ones(6, dtype=torch.bool), strength, 0.0)
    for _ in range(600):
        optimizer.zero_grad()
        away = weight - optimum
        (0.5 * away @ hessian @ away).backward()  # type: ignore[no-untyped-call]
        penalty.add_to_gradients()
        optimizer.step()
    expected = torch.linalg.solve(hessian + strength * torch.eye(6, dtype=torch.float64), hessian @ optimum)
    assert float((weight.detach() - expected).abs().max()) < 1e-10


KEPT, GONE = 8.0, 2.0


def layer(value: float = GONE) -> tuple[nn.Parameter, Tensor]:
    weight = nn.Parameter(torch.full((4, 3), KEPT))
    removed = torch.zeros(4, 3, dtype=torch.bool)
    removed[2:] = True
    with torch.no_grad():
        weight[removed] = value
    return weight, removed


def growing(layers: dict[str, tuple[nn.Parameter, Tensor]], **stop: Any) -> GrowingHook:
    rule = {"kept": 0.0, "ratio": None, "together": True, **stop}
    penalty = Penalty({name: weight for name, (weight, _) in layers.items()})
    return GrowingHook(penalty, {n: r for n, (_, r) in layers.items()}, ramp("0", "0.25", 2, "1"), 3, rule)


def values(hook: GrowingHook, name: str, removed: bool = True) -> float:
    mask = hook.removed[name] if removed else ~hook.removed[name]
    (value,) = set(hook.penalty.values[name][mask].tolist())
    return float(value)


def test_the_penalty_grows_on_what_goes_is_held_and_then_is_finished() -> None:
    hook = growing({"a": layer()}, kept=-0.125)
    seen = []
    step = 0
    while not hook.finished(step):
        hook.before_step(step)
        seen.append((values(hook, "a"), values(hook, "a", removed=False)))
        step += 1
    assert [value for value, _ in seen] == [0.25, 0.25, 0.5, 0.5, 0.75, 0.75, 1.0, 1.0, 1.0, 1.0, 1.0]
    assert {value for _, value in seen} == {-0.125}
    assert step == 8 + 3  # four increments of two iterations, three to stabilise


def test_filters_that_are_small_enough_stop_growing_together_or_each_for_itself() -> None:
    for together, ends in ((True, {"a": 1.0, "b": 1.0}), (False, {"a": 0.25, "b": 1.0})):
        layers = {"a": layer(), "b": layer()}
        hook = growing(layers, ratio=10.0, together=together)
        hook.before_step(0)
        with torch.no_grad():  # from now on layer a has the ratio 1e6, which its moving mean passes at once
            layers["a"][0][layers["a"][1]] = KEPT / 1e6
        for step in range(1, 11):
            hook.before_step(step)
        assert {name: values(hook, name) for name in layers} == ends


def test_when_all_layers_are_small_enough_the_phase_ends_early() -> None:
    layers = {"a": layer(KEPT / 100), "b": layer(KEPT / 100)}
    hook = growing(layers, ratio=10.0)
    hook.before_step(0)
    assert values(hook, "a") == 0.0  # small enough before the first increment
    assert [hook.finished(step) for step in (2, 3)] == [False, True]


def test_the_ratio_is_smoothed() -> None:
    """GReg's moving mean: .9 of what it was and .1 of what it is, beginning with the first ratio."""
    layers = {"a": layer()}
    hook = growing(layers, ratio=1e9)
    hook.before_step(0)
    with torch.no_grad():
        layers["a"][0][layers["a"][1]] = KEPT / 100
    hook.before_step(2)
    assert float(hook.smoothed[0]) == pytest.approx(0.9 * (KEPT / GONE) + 0.1 * 100)


def test_a_hook_that_goes_on_from_its_state_is_as_one_that_never_stopped() -> None:
    for stop_at in range(12):
        layers = {"a": layer(KEPT / 20), "b": layer()}
        stop = {"ratio": 30.0, "together": False}
        whole, first = growing(layers, **stop), growing(layers, **stop)
        traces: list[list[tuple[float, float]]] = [[], []]
        second = first
        for step in range(12):
            if step == stop_at:
                state = {key: value.clone() for key, value in first.state().items()}
                second = growing(layers, **stop)
                second.load(state)
            with torch.no_grad():
                layers["a"][0][layers["a"][1]] = KEPT / (20 + 100 * step)
            for hook, trace in ((whole, traces[0]), (second if step >= stop_at else first, traces[1])):
                hook.before_step(step)
                trace.append((values(hook, "a"), values(hook, "b")))
        assert traces[0] == traces[1]
        assert traces[0][-1][0] < traces[0][-1][1] == 1.0
        assert [whole.finished(step) for step in range(20)] == [second.finished(step) for step in range(20)]


def test_a_layer_of_which_nothing_goes_is_left_alone() -> None:
    weight, removed = layer()
    hook = growing({"a": (weight, torch.zeros_like(removed))})
    hook.before_step(0)
    assert hook.penalty.values == {}
    assert hook.finished(0)
