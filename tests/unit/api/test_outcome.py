"""How a search ended, as data, as a frame, and in a notebook."""

from __future__ import annotations

from pathlib import Path

import pytest
from made_search import make_search

from prune_search.api.outcome import Outcome
from prune_search.ledger.records import SearchRecords, read_search


@pytest.fixture(scope="module")
def records(tmp_path_factory: pytest.TempPathFactory) -> SearchRecords:
    """A search that has ended."""
    return read_search(make_search(tmp_path_factory.mktemp("outcome"), "monday"))


def test_the_data_of_a_search_name_its_best_trial_its_front_and_its_account(tmp_path: Path) -> None:
    records = read_search(make_search(tmp_path, trials=8))
    outcome = Outcome(records, 2, 5, "run-id", 1.23456)
    assert (
        repr(outcome)
        == f"Outcome(search {records.name}, {len(records.trials)} trials with controls, ended by signal 2)"
    )
    data = outcome.as_data()
    assert data["trials"] == {"completed": 6, "stopped": 1, "failed": 1, "duplicates": 0}
    assert (data["parent_run_id"], data["undelivered"], data["wall_s"]) == ("run-id", 5, 1.235)
    names = {trial["name"] for trial in data["pareto"]}
    assert data["best"]["name"] in names
    assert data["steps_trained"] > 0


@pytest.mark.slow
def test_a_frame_has_a_row_for_each_trial(records: SearchRecords) -> None:
    frame = Outcome(records, None, 0, None, 1.0).frame()
    assert len(frame) == len(records.trials)
    assert {"trial", "status", "val/accuracy", "sparsity"} <= set(frame.columns)


def test_a_notebook_says_how_an_interrupted_search_goes_on(records: SearchRecords) -> None:
    ended = Outcome(records, None, 0, None, 1.0)._repr_html_()
    assert "<table" in ended
    assert "Interrupted" not in ended
    stopped = Outcome(records, 2, 0, None, 1.0)._repr_html_()
    assert "Interrupted. prune_search.resume(&#x27;monday&#x27;) continues it." in stopped
