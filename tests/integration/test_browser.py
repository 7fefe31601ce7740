"""MLflow's pages as a real browser shows them after a search.

The pictures of the pages lie in $PRUNE_SEARCH_PICTURES where it names a folder, else in pytest's temporary folder.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import pytest
from browser import Browser, chromium
from made_search import make_search
from real_mlflow import MLFLOW_WARNINGS, kept_runs, local_server
from real_search import wait_for

import prune_search
from prune_search import Where
from prune_search.api.compare import draw
from prune_search.ledger.records import SearchRecords, read_search
from prune_search.ledger.tracking_uri import default_uri
from prune_search.tracking.delivery_thread import sync
from prune_search.tracking.ui_views import searches_link, table_link

pytestmark = [MLFLOW_WARNINGS, pytest.mark.browser, pytest.mark.services]


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    named = os.environ.get("PRUNE_SEARCH_PICTURES")
    pictures = Path(named) if named else tmp_path_factory.mktemp("pictures")
    pictures.mkdir(parents=True, exist_ok=True)
    with chromium(pictures) as started:
        yield started


@dataclass(frozen=True)
class Pages:
    """A search, and where its pages are.

    Attributes:
        records: of the search.
        runs: MLflow's id of each run, by the trial's id; the search itself is the empty one.
        experiment: MLflow's id.
        uri: of the server.
    """

    records: SearchRecords
    runs: dict[str, str]
    experiment: str
    uri: str

    def names(self) -> dict[str, str]:
        """The name of each trial and control, by id."""
        found = self.records.trials.items()
        return {key: trial.proposed.data["name"] for key, trial in found if trial.proposed is not None}


@pytest.fixture(scope="module", params=["mixed", pytest.param("quickstart", marks=pytest.mark.long)])
def pages(
    browser: Browser, trouble: Path, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Iterator[Pages]:
    """The small search of test_search.py; the quickstart, minutes of it, shows the same pages again."""
    if request.param == "mixed":
        outcome = request.getfixturevalue("mixed")
    else:
        outcome = prune_search.launch(request.param, where=Where(storage=tmp_path_factory.mktemp("storage")))
    assert outcome.undelivered == 0
    from mlflow import MlflowClient

    definition = outcome.records.definition
    client = MlflowClient(outcome.records.tracking_uri)
    experiment = client.get_experiment_by_name(definition["experiment"])
    assert experiment is not None
    found = kept_runs(client, definition["experiment"], definition["id"])
    runs = {run.key: run.run.info.run_id for run in found}
    with local_server(outcome.records.folder.parent.parent) as server:
        yield Pages(outcome.records, runs, experiment.experiment_id, server.uri)


def run_link(pages: Pages, key: str) -> str:
    """The page of a run."""
    return f"#/experiments/{pages.experiment}/runs/{pages.runs[key]}?workflowType=machine_learning"


def test_the_runs_table_shows_every_trial_and_control_with_its_figures(browser: Browser, pages: Pages) -> None:
    link = table_link(pages.records.definition["id"], experiment=pages.experiment)
    columns = ("best/val/accuracy", "best/sparsity", "mask.sparsity", "paradigm", "status", "front", "pareto")
    shown = (*pages.names().values(), *columns, "Sort: best/val/accuracy")
    text = browser.text(f"{pages.uri}/{link}", *shown, picture="runs")
    # The view of the search shows its trials and controls, and nothing else.
    assert f"{len(pages.runs) - 1} matching runs" in text


def test_the_charts_are_those_of_the_search(browser: Browser, pages: Pages) -> None:
    link = table_link(pages.records.definition["id"], charts=True, experiment=pages.experiment)
    browser.text(f"{pages.uri}/{link}", "Search", "best/val/accuracy", "val/accuracy", picture="charts")


def test_the_compare_page_sets_paradigms_side_by_side(browser: Browser, pages: Pages) -> None:
    names = pages.names()
    chosen = [*[trial.id for trial in pages.records.numbered()][:3], "control-dense"]
    runs = quote(json.dumps([pages.runs[key] for key in chosen]))
    link = f"#/compare-runs?runs={runs}&experiments={quote(json.dumps([pages.experiment]))}"
    expected = [names[key] for key in chosen] + ["val/accuracy", "mask.sparsity", "steps_trained"]
    browser.text(f"{pages.uri}/{link}", *expected, picture="compare")


def test_the_page_of_a_trial_tells_what_it_was(browser: Browser, pages: Pages) -> None:
    best = max(pages.records.numbered(), key=lambda trial: trial.metrics["val/accuracy"])
    assert best.proposed is not None
    link = run_link(pages, best.id)
    expected = (best.proposed.data["name"], "best/val/accuracy", "mask.sparsity", "trial.key", "mask.sha256", "digits")
    browser.text(f"{pages.uri}/{link}", *expected, picture="trial")


def test_the_page_of_the_search_holds_the_note_with_the_leaderboard(browser: Browser, pages: Pages) -> None:
    link = run_link(pages, "")
    name = pages.records.name
    expected = (name, "Best:", "Plan:", "control-dense", f"prune-search export {name}")
    browser.text(f"{pages.uri}/{link}", *expected, picture="search", press="Show more")
    # The Pareto front is drawn in it, from the run's own artifacts.
    width = "return [...document.querySelectorAll('img')].find(one => one.src.includes('pareto.svg'))?.naturalWidth"
    assert wait_for(lambda: browser.driver.execute_script(width)) > 300


@dataclass(frozen=True)
class Repeated:
    """Two searches of one task, of thirty trials and of four, that nobody trained; and where their pages are."""

    records: list[SearchRecords]
    runs: dict[str, str]
    experiment: str
    uri: str


@pytest.fixture(scope="module")
def repeated(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Repeated]:
    from mlflow import MlflowClient

    storage = tmp_path_factory.mktemp("repeated")
    uri = default_uri(storage)
    records = []
    for name, trials in (("monday", 30), ("tuesday", 4)):
        folder = make_search(storage, name, trials=trials)
        draw(read_search(folder))
        sync(folder, uri)
        records.append(read_search(folder))
    client = MlflowClient(uri)
    found = kept_runs(client, "digits/mlp", records[0].definition["id"])
    experiment = client.get_experiment_by_name("digits/mlp")
    assert experiment is not None
    with local_server(storage) as server:
        yield Repeated(records, {run.key: run.run.info.run_id for run in found}, experiment.experiment_id, server.uri)


def test_thirty_trials_are_compared_over_parallel_coordinates(browser: Browser, repeated: Repeated) -> None:
    done = [trial.id for trial in repeated.records[0].numbered() if trial.status == "completed"]
    assert len(done) == 28
    runs = quote(json.dumps([repeated.runs[key] for key in done]))
    link = f"#/compare-runs?runs={runs}&experiments={quote(json.dumps([repeated.experiment]))}"
    expected = ("Comparing 28 Runs", "Parallel Coordinates Plot", "mask.sparsity", "val/accuracy")
    browser.text(f"{repeated.uri}/{link}", *expected, picture="compare-30")
    # An axis for each knob that it opens with, and one for the metric that the search looks at first.
    axes = "return [...document.querySelectorAll('.parcoords .axis-title')].map(one => one.textContent)"
    drawn = wait_for(lambda: browser.driver.execute_script(axes))
    assert {"paradigm", "val/accuracy"} <= set(drawn)
    assert 3 <= len(drawn) <= 5


def test_repeated_searches_of_a_task_are_set_side_by_side(browser: Browser, repeated: Repeated) -> None:
    expected = ("monday", "tuesday", "best/val/accuracy", "search.sampler", "2 matching runs")
    link = searches_link(experiment=repeated.experiment)
    browser.text(f"{repeated.uri}/{link}", *expected, picture="searches")
    charts = searches_link(charts=True, experiment=repeated.experiment)
    curves = ("Searches", "best/val/accuracy", "monday (best/val/accuracy)", "tuesday (best/val/accuracy)")
    browser.text(f"{repeated.uri}/{charts}", *curves, picture="searches-charts")


def test_the_page_of_a_search_charts_its_course(browser: Browser, repeated: Repeated) -> None:
    run = f"{repeated.experiment}/runs/{repeated.runs['']}/model-metrics"
    link = f"#/experiments/{run}?workflowType=machine_learning"
    browser.text(f"{repeated.uri}/{link}", "best/val", "accuracy", "completed", picture="course")
