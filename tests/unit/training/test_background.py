"""What is done beside the training: one at a time, told of in the thread that trains."""

from __future__ import annotations

import threading

import pytest

from prune_search.training.background import Background


def test_a_job_runs_beside_and_is_told_of_here_once() -> None:
    beside, told, go = Background(), [], threading.Event()

    def wait() -> None:
        go.wait(10)

    beside.start(wait, lambda error: told.append((error, threading.current_thread())))
    beside.look()
    assert told == []
    go.set()
    beside.wait()
    beside.wait()
    beside.look()
    assert told == [(None, threading.main_thread())]


def test_the_next_job_waits_for_the_one_before_it_and_tells_of_it_first() -> None:
    beside, order = Background(), []
    for name in "abc":
        beside.start(lambda name=name: order.append(name), lambda error, name=name: order.append(f"{name} told"))  # type: ignore[misc]
    beside.wait()
    assert order == ["a", "a told", "b", "b told", "c", "c told"]


def test_what_a_job_raises_is_handed_on() -> None:
    beside, found = Background(), []

    def fail() -> None:
        raise OSError("no space")

    def done(error: BaseException | None) -> None:
        found.append(error)
        if error is not None:
            raise error

    beside.start(fail, done)
    with pytest.raises(OSError, match="no space"):
        beside.wait()
    beside.start(lambda: None, done)
    beside.wait()
    assert [type(error) for error in found] == [OSError, type(None)]
