"""Low-fidelity trials take part nowhere: the best figures of all do not make them a winner, a finalist or a row."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from command_line import Typed
from guided_trials import CHEAPER
from simulated_runs import Simulated

from prune_search.api.compare import comparison
from prune_search.api.definition import space_of
from prune_search.api.export import chosen_trial
from prune_search.api.outcome import Outcome
from prune_search.ledger.fidelities import fidelity_data
from prune_search.ledger.finalists import finalists_of, winner_of
from prune_search.ledger.ranking import Goals
from prune_search.ledger.records import FINALIST, SearchRecords, read_search
from prune_search.report.differences import names_in
from prune_search.report.page import page
from prune_search.report.rows import rows_of
from prune_search.report.status import status_data
from prune_search.search.guided.experience import gathered
from prune_search.search.guided.recommend import expected_figures, recommended
from prune_search.search.importance import importance_data
from prune_search.tracking.leaderboard import placed
from prune_search.tracking.project import project

pytestmark = pytest.mark.slow

SPACE = CHEAPER + "  finalists: {count: 2, seeds: 2}\n"


@pytest.fixture(scope="module")
def storage(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of a search whose low-fidelity trials measured the best figures of all."""
    storage = tmp_path_factory.mktemp("storage")
    search = Simulated.begin(storage, SPACE)
    before = search.run()
    assert len(before.low_fidelity()) >= 2
    for trial in before.low_fidelity():
        (path,) = (search.folder / "trials" / trial.id).glob("ended-*.json")
        content = json.loads(path.read_text())
        content["data"]["result"]["metrics"] |= {"val/accuracy": 1.0, "val/loss": 0.0}
        path.write_text(json.dumps(content))
    return storage


@pytest.fixture(scope="module")
def search(storage: Path) -> SearchRecords:
    return read_search(storage / "searches" / "simulated")


def ids_in(found: object) -> Iterator[str]:
    """The ids of low-fidelity trials that some output names."""
    text = json.dumps(found, default=str)
    return (part.split('"')[0] for part in text.split('"') if part.startswith("low-fidelity-"))


def test_they_are_beside_the_trials_that_count(search: SearchRecords) -> None:
    assert len(search.numbered()) == 7
    assert all(trial.metrics["val/accuracy"] == 1.0 for trial in search.low_fidelity())
    assert not any(trial.low_fidelity for trial in (*search.numbered(), *search.controls()))
    assert sum(search.counts().values()) == 7


def test_none_is_the_winner_a_finalist_or_on_the_front(search: SearchRecords) -> None:
    goals, everyone = Goals.of(search.definition["space"]["search"]), list(search.trials.values())
    found = [winner_of(search).trial, goals.best(everyone, search.dense)[0], chosen_trial(search)]
    found += [*goals.pareto(everyone, search.dense), *(one.trial for one in finalists_of(search))]
    found.append(recommended(everyone, goals, search.dense)[0])
    assert len(found) >= 7
    assert all(trial is not None and trial.kind == "trial" for trial in found)
    assert len(finalists_of(search)) == 2
    assert not any(FINALIST in trial.id for trial in search.low_fidelity())


def test_none_is_in_a_table_a_figure_or_a_model(search: SearchRecords) -> None:
    data = comparison([search])
    for name in ("rows", "pareto", "points", "controls", "finalists", "best", "recommended", "importance", "matrix"):
        assert list(ids_in(data[name])) == [], name
    assert not any(run.trial.low_fidelity for row in rows_of([search]) for run in row.runs)
    assert not any(place.trial.low_fidelity for place in placed(search))
    goals = Goals.of(search.definition["space"]["search"])
    assert not any(name.startswith("low") for name in expected_figures(list(search.trials.values()), goals))
    assert all(entry["trials"] <= 7 for entry in importance_data([search]))
    # What was trained for them is paid all the same.
    low = sum(trial.ended.data["steps_trained"] for trial in search.low_fidelity() if trial.ended)
    assert data["steps"]["simulated"]["steps_trained"] > low > 0
    course = data["believed"][0]["course"]
    assert (course[-1]["trials"], course[-1]["value"] < 1.0) == (7, True)
    ends = [trial.ended for trial in (*search.numbered(), *search.low_fidelity()) if trial.ended is not None]
    assert course[-1]["steps"] == sum(end.data["steps_trained"] for end in ends)


def test_an_outcome_does_not_name_them_as_best(search: SearchRecords) -> None:
    outcome = Outcome(search, None, 0, None, 0.0)
    assert list(ids_in(outcome.as_data())) == []


def test_a_later_search_learns_nothing_from_them(storage: Path, search: SearchRecords) -> None:
    space = space_of(search.definition)
    space = replace(space, search={**space.search, "reproducible": False})
    (earlier,) = gathered(storage, space, True, space_of).earlier
    assert 1.0 not in earlier.figures["val/accuracy"]
    assert len(earlier.networks) == 7


def test_mlflow_says_which_they_are_and_does_not_rank_them(search: SearchRecords) -> None:
    views = {view.key: view for view in project(search, "finished")}
    low = [views[trial.id] for trial in search.low_fidelity()]
    for view in low:
        assert dict(view.content.params)["fidelity"] == "steps 0.25"
        assert view.content.tags["kind"] == "low-fidelity"
        assert not any(point.name.startswith("best/") for point in view.content.points)
        assert "never ranked" in view.content.tags["mlflow.note.content"]
    assert dict(views["000001"].content.params)["fidelity"] == "full"
    parent = next(view for view in project(search, "finished") if view.content.tags["kind"] == "search")
    assert dict(parent.content.params)["search.fidelity"] == "steps 0.25"
    assert max(p.value for p in parent.content.points if p.name == "best/val/accuracy") < 1.0


def test_people_are_told_what_they_showed(storage: Path, search: SearchRecords, typed: Typed) -> None:
    (told,) = fidelity_data(search)
    assert (told["fidelity"], told["trials"]) == ("steps 0.25", len(search.low_fidelity()))
    compared = typed("compare", "simulated", "--storage", str(storage))
    assert (compared.code, compared.err) == (0, "")
    assert f"steps 0.25: {told['trials']} low-fidelity trials" in compared.out
    status = typed("status", "simulated", "--storage", str(storage))
    assert "low-fidelity trials" in " ".join(status.out.split())
    assert status_data(search, False)["fidelities"] == [told]
    assert "Low fidelities" in page(comparison([search]), {})
    assert any(name.startswith("low-fidelity-") for name in names_in(search))
