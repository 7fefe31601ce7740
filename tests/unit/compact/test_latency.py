"""Times of forward passes."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn

from prune_search.compact.latency import (
    FEWEST,
    LONG_S,
    MAX_PASSES,
    MIN_PASSES,
    WARM_UP,
    WARM_UP_S,
    Latency,
    latencies,
    machine_name,
)


class Ticking(nn.Module):
    """Takes so long on a clock that only it moves.

    Attributes:
        modes: whether it trained, per pass.
    """

    def __init__(self, clock: list[float], lasts: Iterator[float]) -> None:
        super().__init__()
        self.clock, self.lasts, self.modes = clock, lasts, list[bool]()

    def forward(self, x: Tensor) -> Tensor:
        self.clock[0] += next(self.lasts)
        self.modes.append(self.training)
        return x


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [0.0]
    monkeypatch.setattr("prune_search.compact.latency.time.perf_counter", lambda: now[0])
    return now


def test_the_median_and_quartiles_are_of_passes_after_the_warm_up(clock: list[float]) -> None:
    slow_start = itertools.chain(itertools.repeat(0.7, WARM_UP), itertools.cycle((0.1, 0.2, 0.3, 0.2)))
    network = Ticking(clock, slow_start).train()
    found = latencies({"it": network}, torch.zeros(1))["it"]
    assert found.passes == MIN_PASSES
    assert (found.low, found.median, found.high) == pytest.approx((175.0, 200.0, 225.0))
    assert len(network.modes) == WARM_UP + MIN_PASSES
    assert not any(network.modes)
    assert network.training, "it was put back into the mode that it had"


def test_a_network_of_no_time_is_not_timed_for_ever(clock: list[float]) -> None:
    networks = {name: Ticking(clock, itertools.repeat(0.0)) for name in ("a", "b")}
    assert {found.passes for found in latencies(networks, torch.zeros(1)).values()} == {MAX_PASSES}


def test_of_slow_networks_a_few_passes_are_enough(clock: list[float]) -> None:
    networks = {name: Ticking(clock, itertools.repeat(lasts)) for name, lasts in (("a", 1.0), ("b", 2.5))}
    found = latencies(networks, torch.zeros(1))
    assert {one.passes for one in found.values()} == {FEWEST}
    assert clock[0] <= 2 * (WARM_UP_S + 2.5) + 2 * LONG_S
    assert found["b"].median == pytest.approx(2500.0)


def test_one_is_faster_only_where_the_noise_bars_are_apart() -> None:
    slow = Latency(2.0, 1.5, 2.5, 20)
    assert Latency(1.0, 0.5, 1.4, 20).faster_than(slow)
    assert not Latency(1.0, 0.5, 1.6, 20).faster_than(slow)
    assert not slow.faster_than(slow)


def test_a_processor_has_a_name() -> None:
    assert machine_name(torch.device("cpu"))
