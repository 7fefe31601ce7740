"""The notes that people read on a run's page in MLflow."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest
from told_search import Told

from prune_search.tracking import run_notes
from prune_search.tracking.leaderboard import placed
from prune_search.tracking.run_notes import parent_note, trial_note


def told(storage: Path) -> Told:
    search = Told.begin(storage)
    search.dense(0.98)
    search.trial("snip", 0.9, 0.94)
    search.trial("random", 0.8, 0.90)
    search.failed(0.7)
    return search


def test_the_note_of_a_search_begins_with_the_best_and_ends_with_its_recipe(tmp_path: Path) -> None:
    records = told(tmp_path).records
    note = parent_note(records, placed(records), "running")
    lines = note.splitlines()
    assert lines[0].startswith("**Running:** ")
    assert "2 completed" in lines[0]
    assert "of 4 trials" in lines[0]
    assert lines[2] == "**Best:** 001-snip, val/accuracy 0.94, sparsity 0.9"
    assert "criterion: snip" in note.partition("```yaml")[2]
    assert any(line.startswith("|  | control-dense") for line in lines)


def test_what_to_type_next_follows_from_the_state(tmp_path: Path) -> None:
    records = told(tmp_path / "my store").records
    at = f"told --storage {shlex.quote(str(tmp_path / 'my store'))}"
    board = placed(records)
    assert f"- `prune-search status {at}`" in parent_note(records, board, "running")
    assert f"- `prune-search resume {at}`" in parent_note(records, board, "interrupted")
    finished = parent_note(records, board, "finished")
    assert "prune-search resume" not in finished
    assert f"- `prune-search export {at} --to DIR`" in finished


def test_a_note_that_is_too_long_for_a_tag_goes_without_the_recipe(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    records = told(tmp_path).records
    whole = parent_note(records, placed(records), "finished")
    monkeypatch.setattr(run_notes, "MAX_TAG", len(whole) - 1)
    short = parent_note(records, placed(records), "finished")
    assert whole.startswith(short)
    assert "```yaml" not in short


def test_a_search_without_results_says_so(tmp_path: Path) -> None:
    records = Told.begin(tmp_path).records
    note = parent_note(records, [], "running")
    assert "No trial has completed yet." in note
    assert "none begun" in note
    assert "Best" not in note


def test_the_note_of_a_trial_says_what_became_of_it_and_marks_are_text(tmp_path: Path) -> None:
    search = told(tmp_path)
    error = {"kind": "nan", "message": "`loss`\nis [x](y)"}
    search.trial("snip", 0.6, None, status="failed", result=None, error=error)
    search.trial("snip", 0.9, 0.94, twin="000001")
    trials = search.records.trials

    def note(number: int, status: str) -> str:
        return trial_note(search.records, trials[f"{number:06d}"], status)

    assert note(1, "completed").startswith("Export it with `prune-search export told --storage ")
    assert "--trial 001-snip --to DIR" in note(1, "completed")
    assert note(4, "failed") == r"Failed (nan): \`loss\` is \[x\](y)"
    assert note(5, "completed").startswith("The same recipe as trial 000001")
    assert "prune-search resume told" in note(2, "interrupted")
    assert note(2, "running") == ""
