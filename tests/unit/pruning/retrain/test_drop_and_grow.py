"""Masks of constant size that move: SET, RigL, SNFS and DeepR against plain loops of their algorithms."""

from __future__ import annotations

import math
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from prune_search import Dynamics, UserError, find_mask
from prune_search.pruning.retrain.dynamics.sparse_momentum import shared_out
from prune_search.pruning.retrain.events import Events
from prune_search.tasks.network import prunable_weights

X = torch.randn(16, 1, 6, 6, generator=torch.Generator().manual_seed(0))
Y = torch.arange(16) % 4
MOVING = ("set", "rigl", "snfs", "deepr")
# Often enough, and loud enough, that every one of them moves within a few steps.
SHORT: dict[str, dict[str, Any]] = {
    "set": {"every": 3, "until": 30},
    "rigl": {"every": 3, "until": 30},
    "snfs": {"every": 3, "until": 30},
    "deepr": {"alpha": 0.01, "temperature": 1e-3, "until": 30},
}


def network() -> nn.Module:
    torch.manual_seed(5)
    model = nn.Sequential(nn.Conv2d(1, 6, 3), nn.ReLU(), nn.Flatten(), nn.Linear(96, 20), nn.ReLU(), nn.Linear(20, 4))
    kernels = model.get_parameter("0.weight")
    kernels.data = kernels.data.contiguous(memory_format=torch.channels_last)
    return model


def backward(model: nn.Module) -> None:
    model.zero_grad()
    nn.functional.cross_entropy(model(X), Y).backward()  # type: ignore[no-untyped-call]


def sgd(model: nn.Module, lr: float = 0.1, momentum: float = 0.9, weight_decay: float = 1e-3) -> torch.optim.Optimizer:
    return torch.optim.SGD(model.parameters(), lr=lr, momentum=momentum, weight_decay=weight_decay)


def made(name: str, model: nn.Module, optimizer: torch.optim.Optimizer, **options: Any) -> Dynamics:
    given = {"sparsity": 0.8, "scope": "erk", "steps": 30, **SHORT[name], **options}
    return Dynamics(name, model, optimizer, **given)


def flat(tensor: Tensor) -> np.ndarray[Any, Any]:
    array: np.ndarray[Any, Any] = tensor.detach().reshape(-1).numpy().copy()
    return array


def counts(mask: Mapping[str, Tensor]) -> list[int]:
    return [int(one.sum()) for one in mask.values()]


@pytest.mark.parametrize("adam", [False, True])
@pytest.mark.parametrize("name", MOVING)
def test_counts_stay_and_what_is_masked_is_exactly_zero_with_its_buffers(name: str, adam: bool) -> None:
    model = network()
    optimizer = torch.optim.Adam(model.parameters(), 0.01) if adam else sgd(model)
    dynamics = made(name, model, optimizer)
    before, seen = counts(dynamics.mask), {dynamics.mask.sha256}
    for i in range(30):
        backward(model)
        dynamics.step(i)
        seen.add(dynamics.mask.sha256)
        assert sum(counts(dynamics.mask)) == sum(before)
        assert name == "snfs" or counts(dynamics.mask) == before
        assert dynamics.mask.receipt().units_kept == sum(before)
        for key, weight in prunable_weights(model).items():
            pruned = ~dynamics.mask[key]
            buffers = [b for b in optimizer.state[weight].values() if isinstance(b, Tensor) and b.shape == weight.shape]
            for tensor in (weight.detach(), *buffers):
                assert bool((tensor[pruned] == 0).all())
            assert not bool(torch.signbit(weight[pruned]).any())
    assert len(seen) > 3


# --- RigL -----------------------------------------------------------------------------------------------------------


def rigl_by_hand(
    weight: np.ndarray[Any, Any], gradient: np.ndarray[Any, Any], mask: np.ndarray[Any, Any], zeta: float
) -> np.ndarray[Any, Any]:
    """The mask update of the released code, by sorting: n_prune = int(n_ones ζ), two stable top-k."""
    prune = int(mask.sum() * zeta)
    keep = int(mask.sum()) - prune
    first = np.zeros_like(mask)
    first[np.argsort(-np.abs(weight * mask), kind="stable")[:keep]] = True
    lifted = np.where(first, np.abs(gradient).min() - 1, np.abs(gradient))
    second = np.zeros_like(mask)
    second[np.argsort(-lifted, kind="stable")[:prune]] = True
    assert not bool((first & second).any())
    return first | second


@pytest.mark.parametrize("i", [0, 4, 8, 16])
def test_a_rigl_update_is_that_of_the_released_code(i: int) -> None:
    model = network()
    optimizer = sgd(model)
    dynamics = made("rigl", model, optimizer, every=4, until=20, drop=0.4)
    for _ in range(2):  # momentum everywhere
        backward(model)
        dynamics.step(1)
    backward(model)
    with torch.no_grad():
        # Ties among weights and among gradients.
        for weight in prunable_weights(model).values():
            weight.copy_(torch.round(weight * 20) / 20 + 0.01 * torch.sign(weight))
            assert weight.grad is not None
            weight.grad.copy_(torch.round(weight.grad * 200) / 200)
    zeta = 0.4 / 2 * (1 + math.cos(math.pi * i / 20))
    before = {name: flat(mask) for name, mask in dynamics.mask.items()}
    weights = {name: flat(weight) for name, weight in model.named_parameters()}
    momentum = {n: flat(optimizer.state[p]["momentum_buffer"]) for n, p in model.named_parameters()}
    wanted = {
        name: rigl_by_hand(weights[name], flat(weight.grad), before[name], zeta)
        for name, weight in prunable_weights(model).items()
        if weight.grad is not None
    }
    dynamics.step(i)
    moved = 0
    for name, parameter in model.named_parameters():
        buffer = flat(optimizer.state[parameter]["momentum_buffer"])
        if name not in wanted:
            # The event takes the place of the update, of all parameters.
            assert np.array_equal(flat(parameter), weights[name])
            assert np.array_equal(buffer, momentum[name])
            continue
        mask = flat(dynamics.mask[name])
        assert np.array_equal(mask, wanted[name])
        stayed = mask & before[name]
        assert np.array_equal(flat(parameter), np.where(stayed, weights[name], 0))
        assert np.array_equal(buffer, np.where(stayed, momentum[name], 0))
        moved += int((mask & ~before[name]).sum())
    assert moved > 0


def test_weights_that_were_dropped_can_grow_at_once_and_go_on_as_they_were() -> None:
    model = nn.Linear(10, 2, bias=False)
    optimizer = sgd(model)
    mask = find_mask(model, sparsity=0.05)
    dynamics = Dynamics("rigl", model, optimizer, sparsity=0.05, mask=mask, steps=10, drop=0.5, every=2, until=8)
    free = int((~mask["weight"]).sum())
    assert free == 1
    for i in (1, 2):
        before = model.weight.detach().clone()
        model.zero_grad()
        (model(torch.ones(3, 10)) ** 2).sum().backward()
        dynamics.step(i)
    # Of 20 places 9 are dropped and 10 are free: one at most stays behind, all others are where they were.
    assert int((dynamics.mask["weight"] & mask["weight"]).sum()) >= 18
    stayed = dynamics.mask["weight"] & mask["weight"]
    assert torch.equal(model.weight[stayed], before[stayed])


def test_with_nothing_dropped_rigl_and_set_are_a_static_mask_bit_for_bit() -> None:
    found = []
    for name, options in (("rigl", {"drop": 0.0}), ("set", {"drop": 0.0}), ("rigl", {"until": 0})):
        model = network()
        dynamics = made(name, model, sgd(model), **options)
        start = dynamics.mask.sha256
        for i in range(8):
            backward(model)
            dynamics.step(i)
        assert dynamics.mask.sha256 == start
        found.append([parameter.detach().clone() for parameter in model.parameters()])
    for other in found[1:]:
        assert all(torch.equal(a, b) for a, b in zip(found[0], other, strict=True))


def test_rigl_with_random_growth_moves_the_mask_as_set_does() -> None:
    masks = []
    for name, options in (("set", {"anneal": "cosine"}), ("rigl", {"growth": "random"})):
        model = network()
        dynamics = made(name, model, sgd(model), every=3, until=30, **options)
        for i in (1, 2, 3):
            backward(model)
            dynamics.step(i)
        masks.append(dynamics.mask.sha256)
    assert masks[0] == masks[1]


def test_the_dropped_share_falls_as_in_the_paper_and_counts_are_rounded_down() -> None:
    events = Events(0, 75_000, 100, Decimal("0.3"), Decimal(0), "cosine")
    assert (events.share(0), events.share(37_500)) == (Decimal("0.3"), Decimal("0.15"))
    assert float(events.share(75_000)) == 0
    assert [events.dropped(n, 0) for n in (0, 3, 9, 10, 999, 1000)] == [0, 0, 2, 3, 299, 300]
    assert [events.dropped(n, 37_500) for n in (19, 20, 39, 40)] == [2, 3, 5, 6]
    assert events.dropped(10, 0, up=True) == 3
    assert events.dropped(11, 0, up=True) == 4
    assert [step for step in range(0, 400, 50) if events.due(step)] == [0, 100, 200, 300]
    assert not events.due(75_000)
    for step in range(0, 75_000, 700):
        wanted = 0.3 / 2 * (1 + math.cos(math.pi * step / 75_000))
        assert float(events.share(step)) == pytest.approx(wanted, rel=1e-12)
    falls = [Events(10, 20, 5, Decimal("0.5"), Decimal("0.1"), name).share(15) for name in ("constant", "linear")]
    assert [float(share) for share in falls] == pytest.approx([0.5, 0.3])


@pytest.mark.parametrize("init", ["zeros", "normal", "uniform"])
def test_grown_weights_start_as_asked_and_without_momentum(init: str) -> None:
    model = network()
    optimizer = sgd(model)
    dynamics = made("rigl", model, optimizer, init=init)
    backward(model)
    dynamics.step(1)
    before = dict(dynamics.mask)
    backward(model)
    dynamics.step(3)
    for name, weight in prunable_weights(model).items():
        fresh = dynamics.mask[name] & ~before[name]
        assert bool(fresh.any())
        assert bool((weight[fresh] == 0).all()) is (init == "zeros")
        assert bool((optimizer.state[weight]["momentum_buffer"][fresh] == 0).all())
        old = weight[dynamics.mask[name] & before[name]]
        assert float(weight[fresh].detach().abs().max()) <= 4 * float(old.detach().abs().max())


# --- SET ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("signs", ["together", "apart"])
def test_set_drops_the_smallest_magnitudes_of_each_layer(signs: str) -> None:
    model = network()
    optimizer = sgd(model, lr=1e-12, momentum=0.0, weight_decay=0.0)
    dynamics = made("set", model, optimizer, signs=signs, start=3)
    before = {name: mask & True for name, mask in dynamics.mask.items()}
    weights = {name: weight.detach().clone() for name, weight in prunable_weights(model).items()}
    backward(model)
    dynamics.step(3)
    for name, weight in weights.items():
        kept = before[name]
        groups = [kept] if signs == "together" else [kept & (weight >= 0), kept & (weight < 0)]
        for group in groups:
            values = weight[group].abs().sort().values
            left = weight[group & dynamics.mask[name]].abs().sort().values
            # What was dropped can have come back, so the largest ones are surely there.
            surely = len(values) - int(0.3 * len(values))
            assert torch.equal(left[len(left) - surely :], values[len(values) - surely :])
        assert int(dynamics.mask[name].sum()) == int(kept.sum())


def test_set_grows_at_random_places_that_depend_on_seed_and_step_alone() -> None:
    def grown(seed: int, step: int) -> list[int]:
        model = network()
        mask = find_mask(model, "magnitude", 0.8, scope="erk")
        dynamics = made("set", model, sgd(model, lr=1e-12), mask=mask, seed=seed, start=step)
        backward(model)
        dynamics.step(step)
        return [int(place) for place in (dynamics.mask["3.weight"] & ~mask["3.weight"]).flatten().nonzero()]

    assert grown(0, 3) == grown(0, 3)
    assert len({tuple(grown(seed, step)) for seed in (0, 1) for step in (3, 6)}) == 4


# --- SNFS -----------------------------------------------------------------------------------------------------------


def test_an_snfs_event_is_the_algorithm_by_hand() -> None:
    model = network()
    dynamics = made("snfs", model, sgd(model, lr=0.01), every=3, until=30, drop=0.5, to=0.005, momentum=0.8)
    smoothed = {name: torch.zeros_like(weight) for name, weight in prunable_weights(model).items()}
    start = counts(dynamics.mask)
    for i in range(7):
        if i in (3, 6):
            # The event comes before the forward pass of its step, so on the smoothed gradients of the steps before it.
            before = {name: flat(mask) for name, mask in dynamics.mask.items()}
            weights = {name: flat(weight) for name, weight in prunable_weights(model).items()}
            momentum = {name: np.abs(flat(value)).astype(np.float64) for name, value in smoothed.items()}
            rate = 0.005 + (0.5 - 0.005) * (1 + math.cos(math.pi * i / 30)) / 2
            left, lost = {}, {}
            for name, mask in before.items():
                lost[name] = math.ceil(rate * mask.sum())
                keep = int(mask.sum()) - lost[name]
                score = np.where(mask, np.abs(weights[name]), -1)
                left[name] = np.zeros_like(mask)
                left[name][np.argsort(-score, kind="stable")[:keep]] = True
            means = [float(momentum[name][before[name]].mean()) for name in before]
            shares = shared_out(list(lost.values()), means, [int((~mask).sum()) for mask in left.values()])
            wanted = {}
            for (name, mask), count in zip(left.items(), shares, strict=True):
                score = np.where(mask, -1, momentum[name])
                wanted[name] = mask.copy()
                wanted[name][np.argsort(-score, kind="stable")[:count]] = True
        backward(model)
        for name, weight in prunable_weights(model).items():
            assert weight.grad is not None
            held = dynamics.mask[name] if i not in (3, 6) else torch.from_numpy(wanted[name]).reshape(weight.shape)
            # What an event leaves masked starts again at 0.
            last = smoothed[name] * held if i in (3, 6) else smoothed[name]
            smoothed[name] = 0.8 * last + (1 - 0.8) * weight.grad
        dynamics.step(i)
        if i in (3, 6):
            assert all(np.array_equal(flat(dynamics.mask[name]), wanted[name]) for name in wanted)
    assert counts(dynamics.mask) != start
    assert sum(counts(dynamics.mask)) == sum(start)


def test_what_layers_cannot_take_goes_to_the_others() -> None:
    assert shared_out([4, 4], [3.0, 1.0], [5, 9]) == [5, 3]
    assert shared_out([4, 4], [3.0, 1.0], [9, 9]) == [6, 2]
    assert shared_out([1, 1, 1], [1.0, 1.0, 1.0], [1, 1, 1]) == [1, 1, 1]
    assert shared_out([5, 2], [0.0, 0.0], [9, 9]) == [5, 2]
    assert sum(shared_out([7, 3, 1], [0.1, 0.7, 0.2], [20, 4, 20])) == 11


# --- DeepR ----------------------------------------------------------------------------------------------------------


def test_deepr_is_its_algorithm_by_hand() -> None:
    """θ ← θ - η ∂E/∂θ - η α + √(2ηT) ν; what falls below 0 goes, as many come at 0 with the sign of their place."""
    model, twin = network(), network()
    dynamics = made("deepr", model, sgd(model, lr=0.05, momentum=0.0, weight_decay=0.0), alpha=0.2, temperature=0.0)
    dynamics.mask.apply(twin)
    first = {name: torch.sign(weight.detach()) for name, weight in prunable_weights(twin).items()}
    masks = {name: mask.clone() for name, mask in dynamics.mask.items()}
    turned = 0
    for i in range(12):
        backward(model)
        dynamics.step(i)
        # The dynamics rewires before the next forward pass; what it grew is its own draw.
        for name, mask in dynamics.mask.items():
            weight, sign = prunable_weights(twin)[name], drawn_signs(dynamics, name)
            assert torch.equal(sign[first[name] != 0], first[name][first[name] != 0])
            gone = masks[name] & (weight * sign < 0)
            come = mask & ~(masks[name] & ~gone)
            assert int(gone.sum()) == int(come.sum())
            with torch.no_grad():
                weight.masked_fill_(gone | come, 0.0)
            assert bool((mask | ~masks[name] | gone).all())
            turned += int(gone.sum())
            masks[name] = mask.clone()
        backward(twin)
        with torch.no_grad():
            for name, parameter in twin.named_parameters():
                assert parameter.grad is not None
                parameter.add_(parameter.grad * masks.get(name, torch.tensor(True)), alpha=-0.05)
                if name in masks:
                    sign = torch.where(masks[name], drawn_signs(dynamics, name), 0.0)
                    parameter.add_(sign, alpha=-0.05 * 0.2)
        for (name, ours), other in zip(model.named_parameters(), twin.parameters(), strict=True):
            assert torch.allclose(ours, other, atol=1e-6), (i, name)
    assert turned > 10


def drawn_signs(dynamics: Dynamics, name: str) -> Tensor:
    """The signs that a dynamics remembers, as -1 and 1."""
    state = dynamics._hooks[0].state
    assert state is not None
    signs: Tensor = state()[name].float() * 2 - 1
    return signs.reshape(dynamics.mask[name].shape)


def test_deepr_s_noise_has_its_temperature() -> None:
    model = nn.Linear(200, 100, bias=False)
    dynamics = made("deepr", model, sgd(model, lr=0.2, momentum=0.0, weight_decay=0.0), alpha=0.0, temperature=1e-4)
    with torch.no_grad():
        model.weight.copy_(torch.sign(model.weight))
        dynamics.mask.apply(model)
    before = model.weight.detach().clone()
    model.zero_grad()
    (0.0 * model(torch.ones(2, 200))).sum().backward()
    dynamics.step(0)
    moved = (model.weight - before)[dynamics.mask["weight"]].detach()
    assert float(moved.std()) == pytest.approx(math.sqrt(2 * 0.2 * 1e-4), rel=0.03)
    assert abs(float(moved.mean())) < 4 * math.sqrt(2 * 0.2 * 1e-4 / len(moved))


def test_deepr_within_the_network_moves_connections_between_layers() -> None:
    model = network()
    dynamics = made("deepr", model, sgd(model), within="network")
    start = counts(dynamics.mask)
    for i in range(15):
        backward(model)
        dynamics.step(i)
    assert sum(counts(dynamics.mask)) == sum(start)
    assert counts(dynamics.mask) != start


# --- what is refused ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "options", "said"),
    [
        ("rigl", {"granularity": "filter"}, "dynamics: rigl works only with granularity weight"),
        ("rigl", {"until": 31}, "dynamics.until: 31it is past the end"),
        ("set", {"from": 9, "until": 3}, "dynamics.until: 3it comes before from"),
        ("snfs", {"criterion": "fpgm"}, "here single weights move"),
        ("set", {"criterion": "snip"}, "batches: are required by criterion snip"),
        ("set", {"drop": 1.5}, "drop"),
        ("deepr", {"temperature": -1.0}, "temperature"),
    ],
)
def test_what_makes_no_sense_is_refused_in_one_line(name: str, options: dict[str, Any], said: str) -> None:
    model = network()
    with pytest.raises(UserError, match=said):
        made(name, model, sgd(model), **options)
