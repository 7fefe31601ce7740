"""`prune-search delete`: only what is meant goes, only when it is confirmed, and never below a live search."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from command_line import Typed
from told_search import Told

from prune_search.storage.lease import Lease


@pytest.fixture
def told(tmp_path: Path) -> Told:
    told = Told.begin(tmp_path, "monday")
    told.trial("snip", 0.9, 0.95)
    return told


def test_without_a_terminal_a_search_goes_only_where_it_is_confirmed(
    told: Told, typed: Typed, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    other = Told.begin(tmp_path, "tuesday")
    monkeypatch.setattr("sys.stdin", io.StringIO("y\n"))
    said = typed("delete", "monday")
    assert (said.code, said.out) == (2, "")
    assert said.err == "prune-search: delete: stdin is not a terminal: confirm with --yes\n"
    assert told.folder.is_dir()
    said = typed("delete", "monday", "--yes")
    assert (said.code, said.err) == (0, "")
    assert said.out.startswith("monday: deleted.")
    assert not told.folder.exists()
    assert other.folder.is_dir()


def test_at_a_terminal_an_answer_of_no_keeps_the_search(
    told: Told, typed: Typed, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = io.StringIO("n\n")
    monkeypatch.setattr(answers, "isatty", lambda: True)
    monkeypatch.setattr("sys.stdin", answers)
    said = typed("delete", "monday")
    assert said.code == 0
    assert said.out.endswith("monday: not deleted\n")
    assert told.folder.is_dir()


def test_a_running_search_and_a_link_are_not_deleted(told: Told, typed: Typed, tmp_path: Path) -> None:
    with Lease(told.folder, lost=lambda: None):
        said = typed("delete", "monday", "--yes")
    assert said.code == 2
    assert "is being run by process" in said.err
    (tmp_path / "searches" / "alias").symlink_to(told.folder)
    said = typed("delete", "alias", "--yes")
    assert said.code == 2
    assert said.err.count("\n") == 1
    assert told.records.trials
