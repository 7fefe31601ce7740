"""A search that is asked to end tells its workers by a file, which they look for now and then."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from prune_search.search import stop_request
from prune_search.search.stop_request import STOP_FILE, ask_to_stop, watch_for_stop


def test_a_worker_finds_the_sign_at_its_next_look_and_keeps_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    asked = watch_for_stop(tmp_path)
    ask_to_stop(tmp_path)
    # Between two looks nothing is read: this is asked after every step.
    assert not asked()
    now[0] += stop_request.LOOK_EVERY_S + 0.1
    assert asked()
    (tmp_path / STOP_FILE).unlink()
    now[0] += stop_request.LOOK_EVERY_S + 0.1
    assert asked()


def test_a_sign_that_is_there_already_is_found_at_once(tmp_path: Path) -> None:
    ask_to_stop(tmp_path)
    assert watch_for_stop(tmp_path)()
