"""`prune-search sync`: how many records it delivered, and what it says where MLflow does not answer."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from command_line import Typed
from told_search import Told

from prune_search.tracking.delivery import Delivered
from prune_search.tracking.delivery_thread import TrackingError


@pytest.fixture
def told(tmp_path: Path) -> Told:
    told = Told.begin(tmp_path, "monday")
    told.trial("snip", 0.9, 0.95)
    return told


def test_what_was_delivered_is_counted(told: Told, typed: Typed, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[Path, str | None]] = []

    def deliver(folder: Path, uri: str | None) -> Delivered:
        asked.append((folder, uri))
        return counted

    monkeypatch.setattr("prune_search.tracking.delivery_thread.sync", deliver)
    counted = Delivered()
    assert typed("sync", "monday", "--tracking-uri", "http://mlflow:5000").out == "monday: up to date\n"
    assert asked == [(told.folder, "http://mlflow:5000")]
    data = json.loads(typed("sync", "monday", "--tracking-uri", "http://mlflow:5000", "--json").out)
    assert data.pop("name") == "monday"
    assert data
    assert set(data.values()) == {0}


def test_an_mlflow_that_does_not_answer_is_a_line_and_3(
    told: Told, typed: Typed, monkeypatch: pytest.MonkeyPatch
) -> None:
    def deliver(folder: Path, uri: str | None) -> Delivered:
        raise TrackingError("MLflow at http://mlflow:5000 does not answer")

    monkeypatch.setattr("prune_search.tracking.delivery_thread.sync", deliver)
    said = typed("sync", "monday", "--tracking-uri", "http://mlflow:5000")
    assert (said.code, said.out) == (3, "")
    assert said.err == "prune-search: MLflow at http://mlflow:5000 does not answer\n"


def test_a_search_of_somebody_else_is_not_delivered_to_the_server_that_it_names(tmp_path: Path, typed: Typed) -> None:
    folder = Told.begin(tmp_path, "foreign").folder
    file = folder / "search.json"
    definition = json.loads(file.read_text())
    file.write_text(json.dumps({**definition, "tracking_uri": "http://elsewhere.example:5000"}))
    said = typed("sync", "foreign")
    assert (said.code, said.out) == (2, "")
    assert "--tracking-uri" in said.err
