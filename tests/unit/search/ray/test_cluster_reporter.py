"""The status of a cluster is recorded while a search runs, and a cluster that does not answer disturbs nothing."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from prune_search.ledger.cluster_status import Machines, read_machines
from prune_search.search.ray import cluster_reporter
from prune_search.search.ray.cluster_reporter import telling


def test_the_status_is_told_at_once_and_the_thread_ends_with_the_block(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = Machines(nodes=2, lost=1, cpus=8.0, cpus_used=3.0, gpus=0.0, gpus_used=0.0, time=time.time())
    monkeypatch.setattr(cluster_reporter, "machines_now", lambda: now)
    with telling(tmp_path):
        until = time.monotonic() + 5
        while read_machines(tmp_path) is None and time.monotonic() < until:
            time.sleep(0.01)
    assert read_machines(tmp_path) == now


def test_a_cluster_that_does_not_answer_ends_no_search(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def away() -> Machines:
        raise ConnectionError("the head is gone")

    monkeypatch.setattr(cluster_reporter, "machines_now", away)
    with telling(tmp_path):
        time.sleep(0.05)
    assert read_machines(tmp_path) is None
