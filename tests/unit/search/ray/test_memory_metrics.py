"""The memory of a process, in MiB."""

from __future__ import annotations

import resource

import torch

from prune_search.search.ray.memory_metrics import MIB, system_figures


def test_on_a_cpu_the_peak_of_the_process_is_told_in_mib() -> None:
    figures = system_figures(torch.device("cpu"))
    found = figures()
    assert set(found) == {"memory_peak_mib"}
    # A process with torch in it takes some hundred MiB, and no machine has a million of them.
    assert 50 < found["memory_peak_mib"] < 2**20
    held = bytearray(int(64 * MIB))
    held[::4096] = b"x" * len(held[::4096])
    assert figures()["memory_peak_mib"] >= found["memory_peak_mib"]
    assert figures()["memory_peak_mib"] <= resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10 + 1
