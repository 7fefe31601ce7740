"""What the two sides of a difference may be, and what a comparison writes."""

from __future__ import annotations

from pathlib import Path

import pytest
from told_search import Told

from prune_search.api.compare import compare, comparison, differing, write_page
from prune_search.api.where import Where
from prune_search.recipe.problems import UserError


def told(storage: Path, name: str = "told") -> Told:
    search = Told.begin(storage, name)
    search.trial("snip", 0.9, 0.90)
    search.trial("random", 0.8, 0.95)
    return search


def test_a_side_is_a_trial_a_trial_of_another_search_or_a_preset(tmp_path: Path) -> None:
    told(tmp_path), told(tmp_path, "other")
    where = Where(storage=str(tmp_path))
    data = compare("told", where=where, diff=("001-snip", "other/002-random"))["difference"]
    assert [(side["search"], side["name"]) for side in (data["a"], data["b"])] == [
        ("told", "001-snip"),
        ("other", "002-random"),
    ]
    assert "mask.criterion" in {line["key"] for line in data["recipe"]}
    assert compare("told", where=where, diff=("001-snip", "grasp"))["difference"]["b"]["name"] == "grasp"


def test_both_sides_that_are_wrong_are_named_and_a_near_name_is_suggested(tmp_path: Path) -> None:
    records = told(tmp_path).records
    with pytest.raises(UserError) as refused:
        differing([records], ("001-snap", "told/nothing"), str(tmp_path))
    first, second = refused.value.problems
    assert "did you mean '001-snip'" in first.message
    assert second.message.startswith("search told: no finished trial has the name or key 'nothing'")
    assert {first.source, second.source} == {"--diff"}


def test_two_recipes_are_compared_without_any_search(tmp_path: Path) -> None:
    data = compare(where=Where(storage=str(tmp_path)), diff=("snip", "random"))
    assert set(data) == {"difference"}
    assert data["difference"]["metrics"] == []


def test_a_search_that_does_not_exist_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="missing"):
        compare("missing", where=Where(storage=str(tmp_path)))


def test_a_page_that_cannot_be_written_is_said_of_its_option(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("prune_search.report.figure_data.hang", lambda *given, **named: {})
    records = told(tmp_path).records
    data = comparison([records])
    file = tmp_path / "page.html"
    write_page([records], data, file)
    assert "002-random" in file.read_text()
    with pytest.raises(UserError, match="--html"):
        write_page([records], data, file / "below" / "page.html")
