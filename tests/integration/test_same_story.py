"""The best trial and its figure are the same in a comparison, MLflow's table and note, the page and the card."""

from __future__ import annotations

import html
import re
from pathlib import Path

import pytest
from browser import chromium
from real_mlflow import MLFLOW_WARNINGS, deliver_rest, kept_runs, local_server
from real_search import SMALL, Searches

import prune_search
from prune_search.api.compare import comparison, write_page
from prune_search.api.outcome import Outcome
from prune_search.tracking.ui_views import table_link

pytestmark = [MLFLOW_WARNINGS, pytest.mark.browser, pytest.mark.services]

SCHEDULED = "scheduler: {name: asha, grace: 1ep, eta: 2}"
SPACES = {
    "stopped": f"""\
{SMALL}
preset: lottery-ticket
rounds: 3
mask: {{sparsity: {{hole: uniform, low: 0.5, high: 0.99}}}}
search: {{sampler: random, {SCHEDULED}, trials: 5, concurrency: 1, reproducible: true, seed: 1}}
""",
    "repeated": f"""\
{SMALL}
preset: snip
mask: {{sparsity: {{hole: choice, of: [0.5, 0.9, 0.98]}}}}
search: {{sampler: random, trials: 6, concurrency: 1, reproducible: true, seed: 0}}
""",
}


@pytest.fixture(scope="module")
def three(mixed: Outcome, searches: Searches) -> list[Outcome]:
    """A plain search, one with stopped trials, one that drew recipes again."""
    found = [mixed, *(searches.launch(text, f"same-story-{name}") for name, text in SPACES.items())]
    _, stopped, repeated = (outcome.records.counts() for outcome in found)
    assert stopped["stopped"]
    assert repeated["duplicate"]
    return found


def test_the_best_trial_is_the_same_wherever_people_look(
    three: list[Outcome], searches: Searches, tmp_path: Path
) -> None:
    with local_server(searches.storage) as server, chromium(tmp_path) as browser:
        for outcome in three:
            records = outcome.records
            deliver_rest(records.folder)
            data = comparison([records])
            best = next(row for row in data["rows"] if row["key"] == data["best"])
            name, metric = best["name"], data["objectives"][0].split()[1]
            figure = best["metrics"][metric]

            from mlflow import MlflowClient

            client = MlflowClient(records.tracking_uri)
            experiment = client.get_experiment_by_name(records.definition["experiment"])
            assert experiment is not None
            link = table_link(records.definition["id"], experiment=experiment.experiment_id)
            table = browser.text(f"{server.uri}/{link}", name, f"best/{metric}", picture=records.name)
            # MLflow writes the names one under another, in the order of the table.
            names = re.findall(r"^(?:\d{3}-|control-)\S+$", table, re.MULTILINE)
            rows = [one for one in names if not one.startswith("control-")]
            assert rows[0] == name, rows
            runs = {run.key: run.run for run in kept_runs(client, experiment.name, records.definition["id"])}
            assert runs[best["id"]].data.metrics[f"best/{metric}"] == pytest.approx(figure, rel=1e-4)
            assert runs[""].data.metrics[f"best/{metric}"] == pytest.approx(figure, rel=1e-4)
            note = runs[""].data.tags["mlflow.note.content"]
            assert name in note.partition("Best:")[2].partition("\n")[0].replace("\\", "")

            page = tmp_path / f"{records.name}.html"
            write_page([records], data, page)
            shown = re.search(r"Best: <strong>(.*?)</strong>, (.*?)</p>", page.read_text())
            assert shown is not None
            assert html.unescape(shown[1]) == name
            on_page = re.search(rf"{re.escape(metric)} ([0-9.]+)", shown[2])
            assert on_page is not None
            assert float(on_page[1]) == pytest.approx(figure, abs=1e-3)

            where = prune_search.Where(storage=searches.storage)
            exported = prune_search.export(records.name, to=tmp_path / f"card-{records.name}", where=where)
            card = (exported.folder / "README.md").read_text()
            assert f"trial `{name}`" in card
            assert exported.result.metrics[metric] == figure
            assert "(front.svg)" in card
            assert (exported.folder / "front.svg").read_bytes().startswith(b"<?xml")
