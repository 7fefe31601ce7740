"""`prune-search storage`: what a storage contains, row by row, and what a budget would remove."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from command_line import Typed
from told_search import Told

import prune_search
from prune_search import Where
from prune_search.storage import inventory

SHORT = {"train.steps": "4it", "train.batch": 32}


def test_an_empty_storage_has_nothing_in_it(typed: Typed) -> None:
    data = json.loads(typed("storage", "--json").out)
    assert (data["states"], data["bytes"], data["rows"], data["budget"]) == (0, 0, [], None)
    assert data["would_go"] == {"states": 0, "bytes": 0, "rebuild_seconds": 0}


def test_rows_add_up_and_a_budget_says_what_would_go_before_it_goes(
    typed: Typed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prune_search.run("fine-tune", set={**SHORT, "retrain.steps": "2it"}, where=Where(storage=tmp_path))
    Told.begin(tmp_path, "monday")
    data = json.loads(typed("storage", "--json").out)
    assert (data["searches"], data["running"]) == (1, 0)
    assert [row["stretch"] for row in data["rows"]] == ["retrain", "train"]
    for kind in ("vertices", "states", "bytes", "in_use"):
        whole = data["in_use"]["states"] if kind == "in_use" else data[kind]
        assert sum(row[kind] for row in data["rows"]) == whole > 0
    # What is young is in use.
    assert "states in use are kept" in typed("storage", "--budget", "1kB").out
    monkeypatch.setattr(inventory, "YOUNG_S", 0.0)
    told = typed("storage", "--budget", "1kB")
    assert (told.code, "--clean would remove" in told.out) == (0, True)
    assert json.loads(typed("storage", "--json").out)["states"] == data["states"]
    cleaned = typed("storage", "--budget", "1kB", "--clean")
    assert f"removed {data['states']} states" in cleaned.out
    assert json.loads(typed("storage", "--json").out)["bytes"] == 0


def test_a_budget_that_is_no_size_is_refused_in_one_line(typed: Typed) -> None:
    for words in (("storage", "--budget", "many"), ("run", "snip", "--storage-budget", "many")):
        said = typed(*words)
        assert (said.code, said.out, said.err.count("\n")) == (2, "", 1)
        assert "many" in said.err
