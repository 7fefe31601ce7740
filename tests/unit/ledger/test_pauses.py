"""Where paused trials rest, in words."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from made_search import make_search

from prune_search.ledger.pauses import paused_counts, where_paused
from prune_search.ledger.reader import Follower
from prune_search.ledger.records import Recorder, TrialRecords, read_search, trial_id

PLACES: dict[str, dict[str, Any]] = {
    "at 20%": {"round": 1, "step": 5, "share": "20%"},
    "at step 40": {"round": 2, "step": 40},
    "after round 3": {"round": 3, "step": None},
}


@pytest.fixture(autouse=True)
def unsynced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.fsync", lambda handle: None)


def pause(folder: Path, number: int, where: str) -> Recorder:
    recorder = Recorder(folder, trial_id(number))
    data = {"recipe": {"rounds": 3}, "number": number, "name": f"{number:03d}", "paradigm": "", "params": {}}
    recorder.write("proposed", {**data, "duplicate_of": None, "digest": ""})
    there = {**PLACES[where], "steps_trained": 7, "metrics": {"val/accuracy": 0.5}, "sparsity": 0.9}
    spent = {"steps_trained": 7, "steps_saved": 0, "seconds": 1.0}
    recorder.write("ended", {"status": "paused", "result": None, "error": None, "paused": there, **spent})
    return recorder


@pytest.mark.parametrize("where", sorted(PLACES))
def test_a_paused_trial_says_where_and_what_was_measured_there_is_never_lost(tmp_path: Path, where: str) -> None:
    folder = make_search(tmp_path, trials=1, control=False)
    pause(folder, 2, where)
    found = read_search(folder)
    trial = found.trials[trial_id(2)]
    assert (trial.status, where_paused(trial)) == ("paused", where)
    # It was in no record of its own.
    assert trial.metrics == {"val/accuracy": 0.5}
    assert paused_counts(found) == {where: 1}
    assert where_paused(TrialRecords("000001")) == ""


def test_who_follows_a_search_sees_a_paused_trial_go_on(tmp_path: Path) -> None:
    folder = make_search(tmp_path, trials=1, control=False)
    recorder = pause(folder, 2, "at 20%")
    follower = Follower(folder)
    for _ in range(4):
        records, _ = follower.read()
        assert records.trials[trial_id(2)].status == "paused"
    recorder.write("promoted", {"turn": 3, **PLACES["at 20%"]})
    records, changed = follower.read()
    assert changed == {trial_id(2)}
    assert (records.trials[trial_id(2)].status, records.trials[trial_id(2)].turn) == ("waiting", 3)
