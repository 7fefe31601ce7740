"""``prune-search compare`` and ``delete``."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path

import pytest
from command_line import Typed
from told_search import Told

from prune_search.storage.lease import Lease


@pytest.fixture
def told(tmp_path: Path) -> Told:
    """A dense control and four trials, one recipe with two seeds."""
    told = Told.begin(tmp_path, "monday")
    told.dense(0.98)
    told.trial("snip", 0.9, 0.95)
    told.trial("snip", 0.9, 0.93, seed=1)
    told.trial("random", 0.9, 0.70)
    told.trial("snip", 0.95, 0.90)
    return told


def test_the_leaderboard_the_front_and_the_controls_are_shown(told: Told, typed: Typed) -> None:
    said = typed("compare", "monday")
    assert said.code == 0
    # The front has its title after the note under the leaderboard.
    front, controls = said.out.split("Pareto front")[-1].split("controls")
    names = ["001-snip", "004-snip", "003-random"]
    assert [name for line in said.out.splitlines() for name in names if name in line][:3] == names
    assert "0.9400 ± 0.0141" in said.out
    assert "2 seeds" in said.out
    assert "-0.0400" in said.out
    assert "001-snip" in front
    assert "003-random" not in front
    assert "control-dense" in controls
    assert "prune-search export monday --to DIR" in controls


def test_compare_as_json_is_one_object(told: Told, typed: Typed) -> None:
    data = json.loads(typed("compare", "monday", "--json").out)
    assert set(data) >= {"rows", "pareto", "controls", "best", "constraints_met"}
    assert [row["rank"] for row in data["rows"]] == [1, 2, 3]
    assert {"key", "name", "paradigm", "params", "metrics", "seeds", "delta_dense"} <= set(data["rows"][0])


def test_sort_takes_another_metric_and_refuses_an_unknown_one(told: Told, typed: Typed) -> None:
    rows = json.loads(typed("compare", "monday", "--sort", "sparsity", "--json").out)["rows"]
    assert rows[0]["metrics"]["sparsity"] == 0.95
    said = typed("compare", "monday", "--sort", "acuracy")
    assert said.code == 2
    assert "--sort: 'acuracy' is not one of" in said.err


def test_several_searches_are_one_table(told: Told, tmp_path: Path, typed: Typed) -> None:
    other = Told.begin(tmp_path, "tuesday")
    other.trial("random", 0.95, 0.99)
    data = json.loads(typed("compare", "monday", "tuesday", "--json").out)
    assert data["rows"][0]["search"] == "tuesday"
    assert "tuesday" in typed("compare", "monday", "tuesday").out


def test_a_name_of_no_search_is_refused_and_the_others_are_not_shown(told: Told, typed: Typed) -> None:
    said = typed("compare", "monday", "nobody")
    assert (said.code, said.out) == (2, "")
    assert "nobody" in said.err


def test_a_search_without_results_says_so(tmp_path: Path, typed: Typed) -> None:
    Told.begin(tmp_path, "empty")
    assert "no trial has completed" in typed("compare", "empty").out


def test_what_somebody_wrote_into_a_name_is_shown_as_it_is(told: Told, typed: Typed) -> None:
    recorder, proposed = told.propose("snip", 0.6)
    (record,) = (told.folder / "trials" / recorder.trial).glob("proposed-*")
    record.write_text(record.read_text().replace(proposed["name"], "[bold]not markup[/bold]"))
    recorder.write("ended", {"status": "stopped", "result": None, "error": None, "seconds": 1.0})
    assert "[bold]not markup[/bold]" in typed("compare", "monday").out


def test_delete_removes_the_records_and_nothing_else(told: Told, tmp_path: Path, typed: Typed) -> None:
    other = Told.begin(tmp_path, "tuesday").folder
    state = tmp_path / "states" / "w"
    state.mkdir(parents=True)
    said = typed("delete", "monday", "--yes")
    assert said.code == 0
    assert "Stored training states" in said.out
    assert not told.folder.exists()
    assert sorted(path.name for path in told.folder.parent.iterdir()) == ["tuesday"]
    assert other.is_dir()
    assert state.is_dir()
    assert typed("delete", "monday", "--yes").code == 2


def test_delete_asks_first_and_does_nothing_where_nobody_answers(told: Told, typed: Typed) -> None:
    said = typed("delete", "monday")
    assert said.code == 2
    assert "confirm with --yes" in said.err
    assert (told.folder / "search.json").is_file()


@pytest.mark.parametrize(("answer", "gone"), [("y\n", True), ("n\n", False)])
def test_delete_does_what_is_answered(
    answer: str, gone: bool, told: Told, typed: Typed, monkeypatch: pytest.MonkeyPatch
) -> None:
    terminal = io.StringIO(answer)
    monkeypatch.setattr(terminal, "isatty", lambda: True)
    monkeypatch.setattr(sys, "stdin", terminal)
    said = typed("delete", "monday")
    assert said.code == 0
    assert ("not deleted" in said.out) is not gone
    assert told.folder.exists() is not gone


def test_a_running_search_is_not_deleted(told: Told, typed: Typed) -> None:
    with Lease(told.folder, lost=lambda: None):
        said = typed("delete", "monday", "--yes")
    assert said.code == 2
    assert "process" in said.err
    assert (told.folder / "search.json").is_file()


def test_a_link_to_elsewhere_is_not_followed(told: Told, tmp_path: Path, typed: Typed) -> None:
    (told.folder.parent / "link").symlink_to(told.folder)
    said = typed("delete", "link", "--yes")
    assert said.code == 2
    assert "is a symbolic link" in said.err
    assert (told.folder / "search.json").is_file()


def test_a_search_whose_records_are_damaged_can_be_deleted(told: Told, typed: Typed) -> None:
    (told.folder / "search.json").write_text("{")
    assert typed("delete", "monday", "--yes").code == 0
    assert not told.folder.exists()


def test_conditions_leave_rows_out_and_groups_are_shown(told: Told, typed: Typed) -> None:
    said = typed("compare", "monday", "--where", "sparsity>=0.95", "--by", "paradigm")
    assert said.code == 0
    assert "2 rows hidden by --where sparsity>=0.95" in said.out
    assert "by paradigm" in said.out
    assert "003-random" not in said.out
    assert "prune-search export monday --trial 004-snip --to DIR" in said.out
    data = json.loads(typed("compare", "monday", "--where", "sparsity>=0.95", "--by", "paradigm", "--json").out)
    assert [row["name"] for row in data["rows"]] == ["004-snip"]
    assert [group["value"] for group in data["groups"]] == ["snip"]
    wrong = typed("compare", "monday", "--where", "sparsity>0.9", "--where", "accuracy>=1")
    assert (wrong.code, wrong.out, wrong.err.count("--where:")) == (2, "", 2)
    assert typed("compare", "monday", "--by", "nothing").code == 2


def test_two_recipes_are_set_side_by_side(told: Told, typed: Typed) -> None:
    said = typed("compare", "monday", "--diff", "001-snip", "3")
    assert said.code == 0
    for word in ("mask.criterion", "monday/003-random", "0.94 ± 0.0141", "-0.24"):
        assert word in said.out
    assert (
        "monday/001-snip and monday/001-snip are the same recipe" in typed("compare", "monday", "--diff", "1", "2").out
    )
    # Of searches alone, and against what no search has run.
    assert "snip" in typed("compare", "--diff", "monday", "snip").out
    assert set(json.loads(typed("compare", "--diff", "monday", "monday/3", "--json").out)) == {"difference"}
    wrong = typed("compare", "monday", "--diff", "nobody", "nothing")
    assert (wrong.code, wrong.err.count("--diff:")) == (2, 2)


def test_without_a_name_nothing_is_compared(told: Told, typed: Typed) -> None:
    for words in ((), ("--by", "paradigm", "--diff", "monday", "snip")):
        said = typed("compare", *words)
        assert said.code == 2
        assert "name at least one search" in said.err


@pytest.mark.slow
def test_page_and_pictures_are_written(told: Told, tmp_path: Path, typed: Typed) -> None:
    page, folder = tmp_path / "report.html", tmp_path / "pictures"
    said = typed("compare", "monday", "--html", str(page), "--pictures", str(folder))
    assert said.code == 0
    assert f"wrote {page}" in said.out
    assert "control-dense" in page.read_text(encoding="utf-8")
    assert (folder / "pareto.svg").is_file()
    assert typed("compare", "monday", "--html", str(tmp_path)).code == 2
