"""What people see of finalists: the same winner in compare, on the page, in the terminal and in MLflow's note."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from simulated_search import SPACE, Simulation, figures_of

from prune_search.cli.comparison import show_comparison
from prune_search.ledger.finalists import winner_of
from prune_search.ledger.records import SearchRecords, TrialRecords
from prune_search.report.compare import Question, compare_data
from prune_search.report.page import page
from prune_search.report.status import status_data
from prune_search.tracking.leaderboard import placed
from prune_search.tracking.project import project_parent
from prune_search.tracking.run_notes import parent_note

REPEATED = SPACE.replace("seed: 5}", "seed: 5, finalists: {count: 3, seeds: 2}}")
MEANS = {"0": 0.50, "1": 0.70, "2": 0.71}


@pytest.fixture
def search(tmp_path: Path) -> SearchRecords:
    """The first finalist is the worst, and seeds do not tell the two others apart."""
    places: dict[str, str] = {}

    def figures(trial: TrialRecords) -> Mapping[str, Any] | None:
        found = figures_of(trial)
        if not trial.repetition:
            return found
        place = places.setdefault(trial.id.split("-")[1], str(len(places)))
        apart = 0.02 if trial.id.endswith("1001") else -0.02
        return {**(found or {}), "val/accuracy": MEANS[place] + apart}

    simulation = Simulation.begin(tmp_path, REPEATED)
    simulation.figures = figures
    return simulation.run()


def name_of(trial: TrialRecords) -> str:
    assert trial.proposed is not None
    return str(trial.proposed.data["name"])


def test_the_winner_is_the_same_wherever_people_look(
    search: SearchRecords, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    end = winner_of(search)
    assert end.trial is not None
    name, key = name_of(end.trial), end.trial.result["key"]
    first, second, last = (name_of(one.trial) for one in end.finalists)
    assert first == name
    data = compare_data([search])
    assert data["best"] == key
    assert [one["like_best"] for one in data["finalists"][search.name]] == [True, True, False]
    assert not any(control["name"].startswith("finalist") for control in data["controls"])
    monkeypatch.setenv("COLUMNS", "100")
    show_comparison({**data, "importance": []}, None)
    lines = capsys.readouterr().out.splitlines()
    board = lines[[line.strip() for line in lines].index("finalists") :]
    shown = {one: next(line for line in board if one in line) for one in (first, second, last)}
    assert "0.7100 ± 0.0283" in shown[first]
    assert f"{second} =" in shown[second]
    assert f"{last} =" not in shown[last]
    assert any(line.startswith(f"best  {name} ") for line in lines)
    text = page({**data, "importance": []}, {})
    assert f"<strong>{name}</strong>" in text
    assert f"Finalists of {search.name}, repeated on new seeds" in text
    note = parent_note(search, placed(search), "finished")
    best = next(line for line in note.splitlines() if line.startswith("**Best:**"))
    assert best.startswith(f"**Best:** {name}, val/accuracy 0.71 ± 0.02828, ")
    assert "1 other of 3 finalists cannot be told apart from it by these seeds" in best
    parent = project_parent(search, "finished").content
    curve = sorted((point.step, point.value) for point in parent.points if point.name == "best/val/accuracy")
    assert curve[-1][1] == pytest.approx(0.71)
    lucky = max(trial.metrics["val/accuracy"] for trial in search.numbered() if trial.status == "completed")
    assert max(value for _, value in curve[:-4]) == pytest.approx(lucky, abs=1e-4)
    best_now = status_data(search, False)["best"]
    assert (best_now["name"], best_now["key"]) == (name, key)


def test_a_condition_that_leaves_the_winner_out_chooses_among_the_rest(search: SearchRecords) -> None:
    end = winner_of(search)
    assert end.trial is not None
    others = [t for t in search.numbered() if t.status == "completed" and t.id != end.trial.id]
    kept = max(others, key=lambda trial: float(trial.metrics["val/loss"]))
    bound = float(kept.metrics["val/loss"])
    assert end.trial.metrics["val/loss"] < bound
    data = compare_data([search], Question(None, (f"val/loss >= {bound}",), None))
    assert [row["key"] for row in data["rows"]] == [kept.result["key"]]
    assert data["best"] == kept.result["key"]


def test_several_searches_are_ranked_by_what_all_have(search: SearchRecords) -> None:
    other = dataclasses.replace(search, name="other")
    data = compare_data([search, other])
    assert set(data["finalists"]) == {search.name, "other"}
    best = max(data["rows"], key=lambda row: row["metrics"].get("val/accuracy", 0.0))
    assert data["best"] == best["key"]
