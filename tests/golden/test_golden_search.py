"""A search of format 1 is read, and gone on with, for ever: its records lie in the repository."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from add_search import PLACE
from command_line import Typed
from real_mlflow import MLFLOW_WARNINGS

from prune_search.ledger.records import read_search
from prune_search.ledger.tracking_uri import default_uri

pytestmark = MLFLOW_WARNINGS


@pytest.fixture
def golden(tmp_path: Path) -> Path:
    """A copy in a storage, its MLflow there too."""
    folder = tmp_path / "searches" / "golden"
    shutil.copytree(PLACE, folder)
    definition = json.loads((folder / "search.json").read_text())
    (folder / "search.json").write_text(json.dumps({**definition, "tracking_uri": default_uri(tmp_path)}))
    return folder


@pytest.mark.slow
def test_a_search_of_format_1_is_shown_compared_and_gone_on_with(golden: Path, typed: Typed) -> None:
    before = {path: path.read_bytes() for path in golden.rglob("*-*.json")}
    data = json.loads(typed("status", "golden", "--json").out)
    assert (data["state"], data["trials"]["completed"], data["planned"]) == ("interrupted", 1, 4)
    (row,) = [row for row in json.loads(typed("compare", "golden", "--json").out)["rows"] if row["id"] == "000001"]
    first = read_search(golden).trials["000001"]
    assert row["key"] == first.result["key"]
    assert typed("resume", "golden", "--json").code == 0
    after = read_search(golden)
    assert [trial.status for trial in after.numbered()] == ["completed"] * 4
    assert len(after.trials["000002"].attempts) == 2
    assert before.items() <= {path: path.read_bytes() for path in golden.rglob("*-*.json")}.items()


def test_a_search_of_a_newer_format_is_refused_in_one_line(golden: Path, typed: Typed) -> None:
    definition = json.loads((golden / "search.json").read_text())
    (golden / "search.json").write_text(json.dumps({**definition, "format": 2}))
    for verb in ("status", "compare", "resume", "sync"):
        said = typed(verb, "golden")
        assert (said.code, said.out) == (2, "")
        assert len(said.err.splitlines()) == 1
        assert "format 2 was written by another version; this one reads format 1" in said.err
