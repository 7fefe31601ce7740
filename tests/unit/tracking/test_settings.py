"""MLflow's settings: for our own calls alone, whatever else runs in the process; the variables stay as they are."""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from made_search import make_search

from prune_search.tracking import delivery_thread
from prune_search.tracking.delivery_thread import DeliveryThread, TrackingError, sync
from prune_search.tracking.settings import SETTINGS, settings

# Without a word MLflow asks 8 times and waits up to 64 seconds in between; three calls of ours, 1 s each, are far less.
IN_TIME_S = 20.0


@contextlib.contextmanager
def deaf_server() -> Iterator[tuple[str, list[float]]]:
    """An address that takes every connection and never answers; and when each one was made."""
    asked: list[float] = []
    kept: list[socket.socket] = []
    with socket.create_server(("127.0.0.1", 0), backlog=64) as listener:

        def take() -> None:
            with contextlib.suppress(OSError):
                while True:
                    kept.append(listener.accept()[0])
                    asked.append(time.monotonic())

        threading.Thread(target=take, daemon=True).start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}", asked
        listener.shutdown(socket.SHUT_RDWR)
    for connection in kept:
        connection.close()


@pytest.mark.slow
def test_two_deliveries_that_overlap_end_in_time_though_the_first_ends_early(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The settings of one delivery must not go with another one: MLflow's own are four minutes a call."""
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    monkeypatch.setattr(delivery_thread, "FIRST_PAUSE_S", 0.05)
    before = dict(os.environ)
    short, long = (make_search(tmp_path, name, trials=1, points=1) for name in ("short", "long"))
    with deaf_server() as (uri, asked):
        failed: list[TrackingError] = []

        def deliver() -> None:
            try:
                sync(long, uri)
            except TrackingError as error:
                failed.append(error)

        first = DeliveryThread(short, uri, "digits/mlp")
        first.start()
        while not asked:
            time.sleep(0.01)
        second = threading.Thread(target=deliver)
        second.start()
        begun = time.monotonic()
        assert first.finish(0.5).waiting > 0
        second.join(IN_TIME_S)
        assert not second.is_alive()
        assert time.monotonic() - begun < IN_TIME_S
        assert len(failed) == 1
        first._thread.join(IN_TIME_S)
        assert not first._thread.is_alive()
    assert "cannot be reached" in str(failed[0])
    assert "\n" not in str(failed[0])
    # What pytest itself writes there tells which test runs.
    changed = {name for name in before.keys() | os.environ.keys() if before.get(name) != os.environ.get(name)}
    assert changed <= {"PYTEST_CURRENT_TEST", "MLFLOW_DISABLE_TELEMETRY"}


@pytest.mark.slow
def test_a_notebooks_own_calls_keep_the_defaults_while_a_search_delivers(monkeypatch: pytest.MonkeyPatch) -> None:
    from mlflow import environment_variables

    retries: Any = environment_variables.MLFLOW_HTTP_REQUEST_MAX_RETRIES
    timeout: Any = environment_variables.MLFLOW_HTTP_REQUEST_TIMEOUT
    monkeypatch.delenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", raising=False)
    monkeypatch.delenv("MLFLOW_HTTP_REQUEST_TIMEOUT", raising=False)
    usual = (retries.get(), timeout.get())
    seen: list[tuple[int, int]] = []
    within, done = threading.Event(), threading.Event()

    def search() -> None:
        with settings():
            within.set()
            done.wait(10)
            with settings():
                pass
            seen.append((retries.get(), timeout.get()))

    thread = threading.Thread(target=search)
    thread.start()
    within.wait(10)
    assert (retries.get(), timeout.get()) == usual
    # Another delivery begins and ends meanwhile.
    with settings():
        assert retries.get() == 0
    done.set()
    thread.join(10)
    assert seen == [(0, 30)]
    assert usual == (7, 120)


def test_a_variable_that_the_user_has_set_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    from mlflow import environment_variables

    words = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": ("3", 3), "MLFLOW_HTTP_REQUEST_TIMEOUT": ("77", 77)}
    words |= {name: ("false", False) for name in SETTINGS if name not in words}
    for name, (text, value) in words.items():
        monkeypatch.setenv(name, text)
        with settings():
            assert getattr(environment_variables, name).get() == value
        monkeypatch.delenv(name)
        with settings():
            assert getattr(environment_variables, name).get() == SETTINGS[name]


def test_mlflow_tells_our_calls_nothing_below_a_warning_and_others_all(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with settings():
        pass
    logger = logging.getLogger("mlflow")
    level = logger.level
    logger.setLevel(logging.INFO)
    try:
        with settings():
            logger.info("hidden")
            logger.warning("shown")
            monkeypatch.setenv("MLFLOW_LOGGING_LEVEL", "INFO")
            logger.info("asked for")
        monkeypatch.delenv("MLFLOW_LOGGING_LEVEL")
        logger.info("the user's own")
    finally:
        logger.setLevel(level)
    lines = capsys.readouterr().err.splitlines()
    assert [line.rpartition("mlflow: ")[2] for line in lines] == ["shown", "asked for", "the user's own"]


@pytest.mark.slow
def test_a_process_that_delivers_changes_one_variable_before_its_first_thread_and_no_other(tmp_path: Path) -> None:
    """In a process of its own, since another test may have imported MLflow here."""
    folder = make_search(tmp_path, "alone", trials=1, points=1)
    code = """
import os, sys, threading
from pathlib import Path
changes = []
real = type(os.environ).__setitem__, type(os.environ).__delitem__
def noted(number):
    def change(self, name, *value):
        changes.append((name, threading.active_count(), threading.current_thread() is threading.main_thread()))
        return real[number](self, name, *value)
    return change
type(os.environ).__setitem__, type(os.environ).__delitem__ = noted(0), noted(1)
from prune_search.tracking.delivery_thread import DeliveryThread
thread = DeliveryThread(Path(sys.argv[1]), sys.argv[2], "digits/mlp")
thread.start()
left = thread.finish(60)
print([change for change in changes if change[0].lstrip("_").startswith(("MLFLOW", "HOME"))], left.waiting)
"""
    environment = {name: value for name, value in os.environ.items() if not name.lstrip("_").startswith("MLFLOW")}
    # Where tests run, MLflow takes itself for switched off.
    environment = {name: value for name, value in environment.items() if name not in ("CI", "PYTEST_CURRENT_TEST")}
    done = subprocess.run(
        [sys.executable, "-c", code, str(folder), f"sqlite:///{tmp_path}/mlflow.db"],
        capture_output=True, text=True, timeout=120, env=environment,
    )  # fmt: skip
    assert done.stdout == "[('MLFLOW_DISABLE_TELEMETRY', 1, True)] 0\n", done.stderr[-2000:]
