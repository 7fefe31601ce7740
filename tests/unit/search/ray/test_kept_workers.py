"""A search's workers are started before the first trial ends, and kept while they wait for work."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest

from prune_search.search.ray import kept_workers
from prune_search.search.ray.kept_workers import KeptWorkers, Roll, wait_for_all


def test_idle_jobs_fill_the_room_until_patience_ends_or_they_are_woken(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[tuple[Any, ...]] = []
    workers = KeptWorkers("s", 3, lambda *words: told.append(words))
    one = workers.idle_job("t1", running=1)
    assert one is not None
    assert one["idle"]["name"] == "s-1"
    assert 0 < one["idle"]["seconds"] <= kept_workers.PATIENCE_S
    assert workers.idle_job("t2", running=1) is not None
    # One trial and two idle jobs are all that there is room for.
    assert workers.idle_job("t3", running=1) is None
    workers.wake(1)
    assert told == [("wake", "s-1")]
    states = [workers.waking]
    workers.ended("t1")
    assert [*states, workers.waking] == [True, False]
    assert workers.idle == 1
    # Nothing but idle jobs has ended: patience goes on to run out.
    monkeypatch.setattr(kept_workers, "PATIENCE_S", -1.0)
    assert workers.idle_job("t4", running=1) is None
    workers.ended("a trial")
    monkeypatch.setattr(kept_workers, "PATIENCE_S", 20.0)
    assert workers.idle_job("t5", running=1) is not None


class Here:
    """A register in this process."""

    def __init__(self) -> None:
        self.roll = Roll()

    def ask(self, method: str, *words: Any) -> Any:
        return getattr(self.roll, method)(*words)


def test_the_first_trial_ends_when_all_workers_have_started(monkeypatch: pytest.MonkeyPatch) -> None:
    here = Here()
    numbers = iter(range(100))
    # Each call is another worker's first.
    monkeypatch.setattr(kept_workers, "arrive", lambda search, ask: ask("arrive", search, "node", 0))
    monkeypatch.setattr(kept_workers, "LOOK_EVERY_S", 0.01)
    ended = threading.Event()

    def first() -> None:
        wait_for_all("s", 3, here.ask)
        ended.set()

    thread = threading.Thread(target=first)
    thread.start()
    for pid in (1, 2):
        assert not ended.wait(0.1)
        here.roll.arrive("s", "node", pid + next(numbers))
    thread.join(timeout=10)
    assert ended.is_set()


def test_a_first_trial_waits_no_longer_than_patience_and_not_for_a_register_that_is_gone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(kept_workers, "arrive", lambda search, ask: ask("arrive", search, "node", 0) or 0)
    monkeypatch.setattr(kept_workers, "PATIENCE_S", 0.1)
    begun = time.monotonic()
    wait_for_all("s", 2, Here().ask)
    wait_for_all("s", 2, lambda *words: None)
    assert time.monotonic() - begun < 5.0


def test_the_roll_forgets_what_is_over() -> None:
    roll = Roll()
    assert roll.arrive("s", "node", 1) == 1
    assert roll.arrive("s", "node", 1) == 1
    assert roll.arrive("s", "other", 1) == 2
    roll.wake("s-1")
    assert roll.is_woken("s-1")
    assert not roll.is_woken("s-2")
    roll.leave("s", "s-1")
    assert not roll.is_woken("s-1")
    roll.leave("s", "")
    assert roll.arrive("s", "node", 2) == 1
