"""Records on disk are the truth: immutable, read in any order, and whatever is none of them is passed over."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from told_search import Told

from prune_search.ledger.progress import Progress
from prune_search.ledger.records import (
    Record,
    Recorder,
    SearchRecords,
    TrialRecords,
    list_searches,
    read_search,
    read_trial,
    search_folder,
    trial_id,
    trial_of,
)
from prune_search.recipe.problems import UserError


def record(kind: Any, attempt: int = 1, number: int = 0, **data: Any) -> Record:
    return Record("000001", kind, attempt, number, 0.0, data)


def test_what_is_written_is_read_back_and_trials_are_in_order_with_controls_last(tmp_path: Path) -> None:
    told = Told.begin(tmp_path)
    told.dense(0.9)
    for accuracy in (0.7, 0.8):
        told.trial("snip", 0.9, accuracy)
    told.failed(0.6)
    told.running("snip", 0.7)
    records = told.records
    assert list(records.trials) == ["000001", "000002", "000003", "000004", "control-dense"]
    assert [trial.metrics.get("val/accuracy") for trial in records.numbered()] == [0.7, 0.8, None, None]
    assert records.dense is not None
    assert records.dense["val/accuracy"] == 0.9
    expected = {"completed": 2, "failed": 1, "running": 1, "stopped": 0, "paused": 0, "duplicate": 0, "waiting": 0}
    assert records.counts() == expected


def test_of_two_attempts_that_ended_the_first_counts_whatever_order_they_are_read_in() -> None:
    first, second = record("ended", 1, status="completed"), record("ended", 2, status="failed")
    early, late = (record("measured", attempt, round=1, step=5, metrics={"m": attempt}) for attempt in (1, 2))
    for order in ([first, second, early, late], [late, early, second, first]):
        trial = trial_of("000001", order, {})
        assert trial.ended is first
        assert trial.measured == [early]
        assert trial.measured_at(1, 5) is early
        assert trial.measured_at(1, None) is None


def test_files_that_are_no_records_are_passed_over(tmp_path: Path) -> None:
    Recorder(tmp_path, trial_id(1)).write("started", {"host": "here"})
    folder = tmp_path / "trials" / trial_id(1)
    (folder / "ended-001-000000.json").write_text('{"format": 1, "kind": "ended", "da')
    (folder / "noted-001-000000.json").write_text('{"time": 0, "data": {}}')
    (folder / "measured-001-000000.json").write_text("[]")
    (folder / "progress-001.json").write_text("{}")
    trial = read_trial(folder)
    assert [one.data for one in trial.attempts] == [{"host": "here"}]
    assert (trial.ended, trial.measured, trial.progress) == (None, [], {})


def test_a_trial_that_gave_its_place_up_waits_and_one_that_was_lost_is_a_retry(tmp_path: Path) -> None:
    for attempt, progress in enumerate((Progress(3), Progress(lacking=("ab", 4)), Progress(oom=True)), 1):
        recorder = Recorder(tmp_path, trial_id(1), attempt)
        recorder.write("started", {})
        recorder.progress(progress)
        trial = read_trial(tmp_path / "trials" / trial_id(1))
        assert trial.status == ("running" if attempt == 1 else "waiting")
    assert trial.progress[2].lacking == ("ab", 4)
    assert trial.alone
    # The first was lost; the second waited for somebody else; the third is the one that counts now.
    assert trial.retries == 1


def test_a_search_that_is_not_there_or_of_another_format_is_a_user_s_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="there is no search 'told' in this storage"):
        read_search(search_folder(tmp_path, "told"))
    folder = Told.begin(tmp_path).folder
    assert list_searches(tmp_path) == ["told"]
    definition = json.loads((folder / "search.json").read_text())
    (folder / "search.json").write_text(json.dumps({**definition, "format": 2}))
    with pytest.raises(UserError, match="format 2 was written by another version; this one reads format 1"):
        read_search(folder)


@pytest.mark.parametrize("name", ["..", "a/b", "", "a b"])
def test_a_search_s_name_cannot_lead_out_of_the_storage(tmp_path: Path, name: str) -> None:
    with pytest.raises(UserError):
        search_folder(tmp_path, name)


def test_a_trial_says_which_kind_it_is() -> None:
    kinds = {
        "000012": "trial",
        "control-dense": "control",
        "finalist-000012-1001": "finalist",
        "low-fidelity-000003": "low-fidelity",
    }
    made = {identity: TrialRecords(identity) for identity in kinds}
    assert {identity: trial.kind for identity, trial in made.items()} == kinds
    assert [trial.id for trial in made.values() if not trial.control] == ["000012"]
    search = SearchRecords("a", Path(), {}, made)
    assert [trial.id for trial in search.controls()] == ["control-dense"]
    assert [trial.id for trial in search.low_fidelity()] == ["low-fidelity-000003"]
    data = {"fidelity": {"label": "steps 0.25"}}
    assert TrialRecords("low-fidelity-000003", Record("", "proposed", 1, 0, 0.0, data)).fidelity == "steps 0.25"
    assert made["000012"].fidelity == ""
