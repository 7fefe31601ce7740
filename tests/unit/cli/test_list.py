"""`prune-search list`: every search of a storage in a row, the damaged ones too."""

from __future__ import annotations

import json
from pathlib import Path

from command_line import Typed
from told_search import Told

from prune_search.ledger.records import SEARCH_FILE


def test_an_empty_storage_says_how_a_search_is_started(typed: Typed, tmp_path: Path) -> None:
    said = typed("list")
    assert (said.code, said.out) == (
        0,
        f"no searches in {tmp_path}. Start one with: prune-search launch quickstart\n",
    )
    assert json.loads(typed("list", "--json").out) == {"storage": str(tmp_path), "searches": []}


def test_a_row_has_state_task_progress_and_best_result(typed: Typed, tmp_path: Path) -> None:
    told = Told.begin(tmp_path, "monday")
    told.trial("snip", 0.9, 0.95)
    told.failed(0.7)
    words = " ".join(typed("list").out.split())
    assert "monday │ interrupted │ mlp on digits │ 2 of 4 │ snip │ accuracy 0.9500 │ 0.9000" in words
    (row,) = json.loads(typed("list", "--json").out)["searches"]
    assert (row["name"], row["state"], row["trials"]["failed"]) == ("monday", "interrupted", 1)


def test_a_damaged_search_does_not_hide_the_others(typed: Typed, tmp_path: Path) -> None:
    Told.begin(tmp_path, "whole").trial("snip", 0.9, 0.95)
    (Told.begin(tmp_path, "broken").folder / SEARCH_FILE).write_text("{")
    said = typed("list")
    assert said.code == 0
    assert {"whole", "broken"} <= set(said.out.split())
