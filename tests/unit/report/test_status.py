"""How far a search is, as the ledger tells it."""

from __future__ import annotations

from pathlib import Path

import pytest
from told_search import Told

from prune_search.ledger.records import Recorder
from prune_search.ledger.state import state_of
from prune_search.report.labels import figure
from prune_search.report.status import list_data, status_data


@pytest.fixture
def told(tmp_path: Path) -> Told:
    """Six trials are planned: two completed, one stopped, one failed, one runs."""
    told = Told.begin(tmp_path, trials=6)
    told.dense(0.98)
    told.trial("snip", 0.9, 0.95)
    told.trial("random", 0.9, 0.90)
    told.trial("snip", 0.8, 0.97, status="stopped", result=None)
    told.failed(0.7)
    told.running("snip", 0.6)
    return told


def test_a_held_search_runs(told: Told) -> None:
    data = status_data(told.records, is_running=True)
    assert (data["name"], data["state"], data["planned"]) == ("told", "running", 6)
    expected = {"completed": 2, "stopped": 1, "failed": 1, "duplicates": 0, "running": 1, "waiting": 1}
    assert data["trials"] == expected
    assert data["controls"] == {"control-dense": "completed"}


def test_without_a_holder_what_ran_waits_to_be_resumed(told: Told) -> None:
    data = status_data(told.records, is_running=False)
    assert data["state"] == "interrupted"
    assert (data["trials"]["running"], data["trials"]["waiting"]) == (0, 2)
    assert data["seconds_left"] is None


def test_a_search_is_finished_when_all_its_trials_and_controls_have_ended(tmp_path: Path) -> None:
    told = Told.begin(tmp_path, trials=2)
    told.trial("snip", 0.5, 0.9)
    assert status_data(told.records, is_running=False)["state"] == "interrupted"
    told.trial("snip", 0.4, 0.9)
    assert status_data(told.records, is_running=False)["state"] == "finished"
    # The last controls come after the last trial, and MLflow says the same.
    Recorder(told.folder, "control-shuffle").write("proposed", {"name": "control-shuffle", "number": 0})
    for running, state in ((False, "interrupted"), (True, "running")):
        assert status_data(told.records, is_running=running)["state"] == state
        assert state_of(told.records, running) == state


def test_a_search_that_ended_before_its_trials_were_done_is_finished_too(tmp_path: Path) -> None:
    told = Told.begin(tmp_path, trials=6)
    told.trial("snip", 0.5, 0.9)
    (told.folder / "ended.json").write_text("{}")
    data = status_data(told.records, is_running=False)
    assert data["state"] == "finished"
    assert data["trials"]["waiting"] == 0


def test_the_best_so_far_and_the_steps_are_told(told: Told) -> None:
    data = status_data(told.records, is_running=True)
    assert data["best"]["name"] == "001-snip"
    assert data["best"]["metrics"]["val/accuracy"] == 0.95
    assert "test/accuracy" not in data["best"]["metrics"]
    assert data["best"]["constraints_met"] is True
    # Four trials and the control, each with 60 steps trained and 40 saved.
    assert (data["steps_trained"], data["steps_saved"]) == (300, 200)


def test_failures_are_told_with_their_error(told: Told) -> None:
    data = status_data(told.records, is_running=True)
    failure = {"id": "000004", "name": "004-snip", "kind": "nan", "message": "the loss is not a number at step 40"}
    assert data["failures"] == [failure]


def test_the_time_left_is_that_of_the_trials_to_come(told: Told) -> None:
    begun = told.records.trials["000005"].attempts[0].time
    # Two trials and two controls at two seconds each, two at once; half of the running one is done.
    assert status_data(told.records, is_running=True, now=begun + 1.0)["seconds_left"] == pytest.approx(3.5)
    assert status_data(told.records, is_running=True, now=begun + 1e6)["seconds_left"] == pytest.approx(3.0)


def test_before_anything_has_ended_no_time_is_promised(tmp_path: Path) -> None:
    told = Told.begin(tmp_path)
    told.running("snip", 0.9)
    data = status_data(told.records, is_running=True)
    assert (data["seconds_left"], data["best"]) == (None, None)


def test_duplicates_are_counted_apart_and_take_no_time(tmp_path: Path) -> None:
    told = Told.begin(tmp_path, trials=4)
    first = told.trial("snip", 0.9, 0.95)
    told.trial("snip", 0.9, 0.95, twin=first, steps_trained=0, steps_saved=100, seconds=0.0)
    data = status_data(told.records, is_running=True)
    assert (data["trials"]["completed"], data["trials"]["duplicates"]) == (1, 1)
    # Two trials and three controls, two at once.
    assert data["seconds_left"] == pytest.approx(5.0)


def test_a_search_that_cannot_be_read_does_not_hide_the_others(tmp_path: Path) -> None:
    Told.begin(tmp_path, "good")
    newer = Told.begin(tmp_path, "newer").folder / "search.json"
    newer.write_text(newer.read_text().replace('"format": 1', '"format": 2'))
    broken = Told.begin(tmp_path, "broken").folder / "search.json"
    broken.write_text('{"format": 1, "name": "broken"}')
    rows = {row["name"]: row for row in list_data(tmp_path, lambda folder: folder.name == "good")}
    assert rows["good"]["state"] == "running"
    assert rows["newer"]["state"] == rows["broken"]["state"] == "unreadable"
    assert "another version" in rows["newer"]["error"]


def test_a_storage_that_does_not_exist_holds_no_search(tmp_path: Path) -> None:
    assert list_data(tmp_path / "nowhere", lambda folder: False) == []
    assert not (tmp_path / "nowhere").exists()


def test_figures_are_written_as_people_read_them() -> None:
    assert [figure(value) for value in (0.98765, -0.5, 999.4, 1200.0, 7_274_496_000.0)] == [
        "0.9877",
        "-0.5000",
        "999.4000",
        "1,200",
        "7.27e+09",
    ]
    assert figure(float("nan")) == "nan"
