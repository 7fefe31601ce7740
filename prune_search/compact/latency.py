"""Measures how long a forward pass takes on this machine, with quartiles."""

from __future__ import annotations

import platform
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from prune_search.tasks.passes import evaluating
from prune_search.tasks.structures import device_of

WARM_UP, WARM_UP_S = 5, 3.0
MIN_PASSES, MAX_PASSES = 20, 500
MIN_S = 0.3
# Of passes that take seconds a few are enough: their quartiles lie close together.
FEWEST, LONG_S = 5, 10.0
# Passes of one network in a turn, where they take less than `TURN_S` each; else one.
TURN, TURN_S = 5, 0.1


@dataclass(frozen=True)
class Latency:
    """Of one forward pass.

    Attributes:
        median, low, high: milliseconds; half of the passes took from low to high (the quartiles).
        passes: how many were timed.
    """

    median: float
    low: float
    high: float
    passes: int

    def faster_than(self, other: Latency) -> bool:
        """Whether the noise bars are apart: three quarters of these passes took less than a quarter of the others."""
        return self.high < other.low


def latencies(networks: Mapping[str, nn.Module], inputs: Any) -> dict[str, Latency]:
    """Time forward passes of several networks in turn, so that other load on the machine affects all alike.

    Args:
        networks: by name, on the device of the inputs; left unchanged.
        inputs: a batch [B, …].

    Returns:
        After some passes that do not count, over at least `MIN_PASSES` passes and `MIN_S` seconds each; where that
        takes longer than `LONG_S` seconds a network, over at least `FEWEST`.
    """
    times: dict[str, list[float]] = {name: [] for name in networks}
    passes = TURN
    for network in networks.values():
        first: list[float] = []
        while len(first) < WARM_UP and _lasts(first) < WARM_UP_S:
            first += _times(network, inputs, 1)
        passes = passes if first[-1] < 1000.0 * TURN_S else 1
    while not _enough(times):
        for name, network in networks.items():
            times[name] += _times(network, inputs, passes)
    return {name: _summary(found) for name, found in times.items()}


def _enough(times: Mapping[str, list[float]]) -> bool:
    count = len(next(iter(times.values())))
    shortest, longest = min(map(_lasts, times.values())), max(map(_lasts, times.values()))
    if count < MIN_PASSES:
        return count >= FEWEST and longest >= LONG_S
    return shortest >= MIN_S or count >= MAX_PASSES


def _lasts(found: list[float]) -> float:
    return sum(found) / 1000.0


def _times(network: nn.Module, inputs: Any, passes: int) -> list[float]:
    wait: Callable[[], None] = torch.cuda.synchronize if device_of(inputs).type == "cuda" else _nothing
    found = []
    with evaluating(network):
        for _ in range(passes):
            wait()
            begun = time.perf_counter()
            network(inputs)
            wait()
            found.append(1000.0 * (time.perf_counter() - begun))
    return found


def _nothing() -> None:
    """A CPU has nothing to wait for."""


def _summary(found: list[float]) -> Latency:
    low, median, high = statistics.quantiles(found, n=4, method="inclusive")
    return Latency(median, low, high, len(found))


def machine_name(device: torch.device) -> str:
    """The processor that a device is, as its maker calls it."""
    if device.type == "cuda":
        return str(torch.cuda.get_device_name(device))
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
