"""A follower has at any time what reading everything anew gives, and opens each record once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from told_search import Told

from prune_search.ledger import reader
from prune_search.ledger.progress import Progress
from prune_search.ledger.reader import Follower
from prune_search.ledger.records import read_record
from prune_search.recipe.problems import UserError


def test_it_tells_what_has_changed_and_has_what_reading_anew_gives(tmp_path: Path) -> None:
    told = Told.begin(tmp_path)
    follower = Follower(told.folder)
    assert follower.read()[1] == set()
    told.dense(0.9)
    told.trial("snip", 0.9, 0.7)
    assert follower.read()[1] == {"000001", "control-dense"}
    recorder, _ = told.propose("snip", 0.8)
    records, changed = follower.read()
    assert changed == {"000002"}
    assert list(records.trials) == ["000001", "000002", "control-dense"]
    recorder.write("started", {})
    recorder.progress(Progress(5))
    records, changed = follower.read()
    assert changed == {"000002"}
    assert records.trials == told.records.trials
    assert follower.read()[1] == set()


def test_no_record_is_opened_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []

    def counting(path: Any) -> Any:
        opened.append(f"{path.parent.name}/{path.name}")
        return read_record(path)

    monkeypatch.setattr(reader, "read_record", counting)
    told = Told.begin(tmp_path)
    follower = Follower(told.folder)
    for accuracy in (0.5, 0.6, 0.7):
        told.trial("snip", 0.9, accuracy)
        follower.read()
    assert len(opened) == len(set(opened)) == 9


def test_a_trial_that_is_not_proposed_yet_is_no_trial_and_an_unknown_search_is_an_error(tmp_path: Path) -> None:
    told = Told.begin(tmp_path)
    (told.folder / "trials" / "000001").mkdir(parents=True)
    assert Follower(told.folder).read()[0].trials == {}
    with pytest.raises(UserError, match="there is no search 'other'"):
        Follower(told.folder.parent / "other").read()
