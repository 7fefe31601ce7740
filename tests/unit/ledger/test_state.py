"""One answer to whether a search runs, was interrupted or has finished."""

from __future__ import annotations

from pathlib import Path

from told_search import Told

from prune_search.ledger.records import Recorder
from prune_search.ledger.state import state_of


def test_all_that_began_must_have_ended_and_enough_must_have_begun(tmp_path: Path) -> None:
    told = Told.begin(tmp_path, trials=2)
    assert state_of(told.records, is_running=True) == "running"
    assert state_of(told.records) == "interrupted"
    told.trial("snip", 0.5, 0.9)
    assert state_of(told.records) == "interrupted"
    # A search that says so itself ended before its trials were all proposed.
    (told.folder / "ended.json").write_text("{}")
    assert state_of(told.records) == "finished"
    (told.folder / "ended.json").unlink()
    told.trial("snip", 0.4, 0.9)
    assert state_of(told.records) == "finished"
    Recorder(told.folder, "control-shuffle").write("proposed", {"name": "control-shuffle", "number": 0})
    assert state_of(told.records) == "interrupted"
