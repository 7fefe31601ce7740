"""The delivering thread: the search never waits for it, and never hears of its troubles."""

from __future__ import annotations

import functools
import logging
import random
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from fake_mlflow import FakeServer, Store, away, hanging
from made_search import SPACE, Maker, make_definition, make_search

from prune_search.ledger.records import TRIALS, Recorder, SearchRecords
from prune_search.ledger.state import State
from prune_search.tracking.delivered_log import memory_folder, only_writer
from prune_search.tracking.delivery_thread import DeliveryThread, sync
from prune_search.tracking.leaderboard import Placed
from prune_search.tracking.project import project_parent
from prune_search.tracking.run_content import RunView
from prune_search.tracking.server import UnreachableError

URI = "http://user:pass-word@tracking.example:5000"


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("prune_search.tracking.delivery_thread.LOOK_EVERY_S", 0.01)
    monkeypatch.setattr("prune_search.tracking.delivery_thread.FIRST_PAUSE_S", 0.01)


def until(condition: Callable[[], bool], seconds: float = 10.0) -> bool:
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.005)
    return condition()


def begin(tmp_path: Path) -> tuple[Path, Maker]:
    folder = make_definition(tmp_path, "live", SPACE.replace("trials: 24", "trials: 2"))
    return folder, Maker(folder, SPACE, random.Random(1), points=3)


def drained(folder: Path, store: Store, uri: str = URI) -> DeliveryThread:
    delivery_thread = DeliveryThread(folder, uri, "digits/mlp", store.connect)
    delivery_thread.start()
    return delivery_thread


def test_records_arrive_while_the_search_runs_and_the_end_is_told_at_the_end(tmp_path: Path) -> None:
    folder, maker = begin(tmp_path)
    store = Store()
    delivery_thread = drained(folder, store)
    recorder, proposed = maker.propose(1)
    metrics = maker.measure(recorder, 0, 0.9)
    assert until(lambda: "000001" in store.by_key() and ("val/accuracy", 20) in store.by_key()["000001"].values())
    assert (store.by_key()[""].status, store.by_key()["000001"].status) == ("RUNNING", "RUNNING")
    maker.end(recorder, proposed, "completed", metrics, 0.9)
    assert until(lambda: store.by_key()["000001"].status == "FINISHED")
    maker.trial(2)
    left = delivery_thread.finish(10)
    assert left.waiting == 0
    assert store.runs[str(left.parent_run_id)].status == "FINISHED"
    assert {run.status for run in store.active()} == {"FINISHED"}


def arrived(store: Store, key: str) -> bool:
    return key in store.by_key()


@pytest.mark.slow
def test_the_parent_is_summed_up_now_and_then_and_at_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    summed: list[int] = []

    def counting(search: SearchRecords, state: State, board: Sequence[Placed]) -> RunView:
        summed.append(len(search.trials))
        return project_parent(search, state, board)

    monkeypatch.setattr("prune_search.tracking.delivery_thread.project_parent", counting)
    text = SPACE.replace("trials: 24", "trials: 9")
    folder = make_definition(tmp_path, "live", text)
    maker, store = Maker(folder, text, random.Random(1), points=3), Store()
    delivery_thread = drained(folder, store)
    for number in range(1, 10):
        maker.trial(number)
        assert until(functools.partial(arrived, store, f"{number:06d}"))
    assert delivery_thread.finish(10).waiting == 0
    # The first time, and after the end: five seconds lie between two others.
    assert summed[-1] == 9
    assert len(summed) <= 4
    assert store.by_key()[""].status == "FINISHED"
    assert store.by_key()[""].values()["completed", 9] == 9


def test_only_the_thread_of_its_own_calls_mlflow(tmp_path: Path) -> None:
    folder = make_search(tmp_path, trials=2, points=2)
    store = Store()
    drained(folder, store).finish(10)
    assert store.calls
    assert {thread for _, thread in store.calls} == {"tracking"}


def test_an_interrupted_search_leaves_nothing_running_and_goes_on_when_it_is_resumed(tmp_path: Path) -> None:
    folder, maker = begin(tmp_path)
    store = Store()
    recorder, proposed = maker.propose(1)
    metrics = maker.measure(recorder, 0, 0.9)
    drained(folder, store).finish(10)
    assert {run.status for run in store.active()} == {"KILLED"}
    delivery_thread = drained(folder, store)
    assert until(lambda: {run.status for run in store.active()} == {"RUNNING"})
    maker.end(recorder, proposed, "completed", metrics, 0.9)
    maker.trial(2)
    assert delivery_thread.finish(10).waiting == 0
    assert {run.status for run in store.active()} == {"FINISHED"}
    assert len(store.runs) == 3


def test_a_server_that_never_answers_takes_no_longer_than_was_granted(tmp_path: Path) -> None:
    folder = make_search(tmp_path, trials=2, points=2)
    store = Store(before=hanging(1.0))
    delivery_thread = drained(folder, store)
    assert until(lambda: bool(store.calls))
    begun = time.monotonic()
    left = delivery_thread.finish(0.2)
    assert time.monotonic() - begun < 0.9
    assert left.waiting > 50
    assert left.parent_run_id is None


def test_a_server_that_is_away_for_ever_leaves_everything_for_a_later_sync(tmp_path: Path) -> None:
    folder = make_search(tmp_path, trials=2, points=2)
    store = Store(before=away)
    left = drained(folder, store).finish(0.3)
    assert left.reason == "connection refused by http://***@host/api"
    store.before = lambda number: None
    sent = sync(folder, URI, store.connect)
    assert sent.operations == left.waiting
    assert len(store.by_key()) == 4


def test_a_server_that_comes_back_gets_everything_once(tmp_path: Path) -> None:
    folder, maker = begin(tmp_path)
    store = Store(before=away)
    delivery_thread = drained(folder, store)
    for number in range(3):
        maker.trial(number)
    assert until(lambda: len(store.calls) > 3)
    store.before = lambda number: None
    assert delivery_thread.finish(10).waiting == 0
    assert set(store.by_key()) == {"", "000001", "000002", "control-dense"}
    assert all(run.values() for run in store.active())


def test_trouble_is_one_line_a_minute_without_passwords(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = make_search(tmp_path, trials=1, points=1)
    store = Store(before=away)
    with caplog.at_level(logging.DEBUG):
        delivery_thread = drained(folder, store)
        assert until(lambda: len(store.calls) > 4)
        delivery_thread.finish(0.1)
    (record,) = caplog.records
    assert record.name == "prune_search"
    assert record.levelno == logging.WARNING
    assert "pass-word" not in caplog.text
    assert "\n" not in record.getMessage()
    assert "MLflow at http://***@tracking.example:5000: connection refused" in record.getMessage()


def test_an_unknown_error_in_the_library_does_not_end_the_thread(tmp_path: Path) -> None:
    folder = make_search(tmp_path, trials=1, points=1)
    store = Store()

    def once(number: int) -> None:
        if number == 3:
            raise AttributeError("a bug below")

    store.before = once
    assert drained(folder, store).finish(10).waiting == 0
    assert len(store.by_key()) == 3


def test_a_connection_that_cannot_be_made_is_tried_again(tmp_path: Path) -> None:
    folder = make_search(tmp_path, trials=1, points=1)
    store, tries = Store(), []

    def connect(uri: str) -> FakeServer:
        tries.append(uri)
        if len(tries) < 3:
            raise UnreachableError("no such database")
        return store.connect(uri)

    delivery_thread = DeliveryThread(folder, URI, "digits/mlp", connect)
    delivery_thread.start()
    assert delivery_thread.finish(10).waiting == 0
    assert tries == [URI] * 3


def test_it_waits_while_another_process_delivers(tmp_path: Path) -> None:
    folder = make_search(tmp_path, trials=1, points=1)
    store = Store()
    with only_writer(memory_folder(folder, URI)):
        delivery_thread = drained(folder, store)
        time.sleep(0.1)
        assert store.calls == []
    assert delivery_thread.finish(10).waiting == 0
    assert len(store.by_key()) == 3


def test_without_a_start_the_end_says_what_waits(tmp_path: Path) -> None:
    folder = make_search(tmp_path, trials=1, points=1)
    assert DeliveryThread(folder, URI, "digits/mlp").finish(0.1).waiting > 10


def test_a_folder_that_is_gone_is_no_error_at_the_end(tmp_path: Path) -> None:
    delivery_thread = drained(tmp_path / "nowhere", Store())
    assert delivery_thread.finish(0.1).waiting == 1


def test_a_full_disk_keeps_nothing_from_mlflow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = make_search(tmp_path, trials=1, points=1)
    store = Store()

    class Full:
        def write(self, data: bytes) -> int:
            raise OSError(28, "No space left on device")

        def close(self) -> None:
            raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("prune_search.tracking.delivered_log.DeliveredLog._file", lambda self: Full())
        assert drained(folder, store).finish(10).waiting == 0
    assert sync(folder, URI, store.connect).runs == 0
    assert all(run.values() for run in store.active())
    assert len(store.runs) == 3


def test_settled_trials_are_not_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from prune_search.ledger.reader import Follower

    folder = make_search(tmp_path, trials=3, points=1)
    follower = Follower(folder)
    for _ in range(3):
        follower.read()
    (folder / TRIALS / "000001" / "ended-001-000000.json").unlink()
    search, changed = follower.read()
    assert (changed, search.trials["000001"].status) == (set(), "completed")
    Recorder(folder, "000004").write("proposed", {"duplicate_of": None, "recipe": {}, "params": {}})
    search, changed = follower.read()
    assert (changed, search.trials["000004"].status) == ({"000004"}, "waiting")


def test_a_record_that_a_listing_missed_is_found_at_the_next_one(tmp_path: Path) -> None:
    from prune_search.ledger.reader import Follower

    folder, maker = begin(tmp_path)
    follower = Follower(folder)
    follower.read()
    recorder, proposed = maker.propose(1)
    metrics = maker.measure(recorder, 0, 0.9)
    late = folder / TRIALS / "000001" / "measured-001-000000.json"
    hidden = late.rename(tmp_path / "hidden")
    maker.end(recorder, proposed, "completed", metrics, 0.9)
    search, changed = follower.read()
    assert search.trials["000001"].measured == []
    hidden.rename(late)
    search, changed = follower.read()
    assert changed == {"000001"}
    assert len(search.trials["000001"].measured) == 1


def test_the_thread_ends_with_the_search_even_where_the_server_hangs(tmp_path: Path) -> None:
    before = set(threading.enumerate())
    folder, store = make_search(tmp_path, trials=3, points=1), Store(before=hanging(0.3))
    assert drained(folder, store).finish(0.1).waiting > 0
    assert until(lambda: set(threading.enumerate()) <= before, 2.0)
    store.before = lambda number: None
    sync(folder, URI, store.connect)
    assert len(store.by_key()) == 5
