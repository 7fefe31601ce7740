"""A comparison as a picture sees it."""

from __future__ import annotations

from pathlib import Path

import pytest
from told_search import Told

from prune_search.api.compare import comparison
from prune_search.recipe.axes import PICTURES
from prune_search.report.figure_data import FigureData, hang, timeline_of


@pytest.fixture
def seen(tmp_path: Path) -> FigureData:
    told = Told.begin(tmp_path, "monday")
    told.dense(0.98)
    told.trial("snip", 0.9, 0.90)
    told.trial("random", 0.5, 0.95)
    told.failed(0.7)
    records = told.records
    return FigureData((records,), comparison([records]))


def test_rows_are_those_that_ran_to_their_end_with_their_records(seen: FigureData) -> None:
    assert (seen.title, seen.objectives) == ("monday", [("maximize", "val/accuracy"), ("maximize", "sparsity")])
    assert {row["paradigm"] for row in seen.rows} == {"snip", "random"}
    for row in seen.rows:
        trial = seen.trial(row)
        assert trial is not None
        assert trial.id == row["id"]
    assert seen.trial({"search": "elsewhere", "id": "000001"}) is None
    assert seen.dense("val/accuracy") == 0.98
    assert seen.dense("no/metric") is None


def test_rows_are_placed_on_their_clock_and_those_of_another_version_left_out(seen: FigureData) -> None:
    placed = list(seen.placed())
    assert [row["id"] for row, _, _ in placed] == [row["id"] for row in seen.rows]
    assert all(timeline.total > 0 for _, _, timeline in placed)
    (row, *_), *_ = placed
    trial = seen.trial(row)
    assert trial is not None
    assert timeline_of({**trial.recipe, "schema": 99}, 0) is None


def test_the_pictures_that_are_asked_for_are_drawn_in_their_order(seen: FigureData) -> None:
    some = sorted(PICTURES)[:2]
    found = hang(seen, some)
    assert set(found) <= set(some)
    places = [(PICTURES[name].facts.place, name) for name in found]
    assert places == sorted(places)
    assert all(content.startswith(b"<?xml") for content in found.values())
