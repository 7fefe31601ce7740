"""A trial too big for its share of a device: row 17 of the fault table."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from real_mlflow import MLFLOW_WARNINGS, kept_runs
from real_search import troubles

import prune_search
from prune_search import Options, Where
from prune_search.ledger.records import read_search, search_folder
from prune_search.ledger.tracking_uri import default_uri
from prune_search.search.ray.driver import _resources

pytestmark = [MLFLOW_WARNINGS, pytest.mark.faults]

SPACE = """\
# prune-search launch hungry.yaml
task: {data: digits, model: {name: hungry, appetite: {hole: choice, of: [0, 1, 2]}}, seed: 0}
train: {steps: 3ep, batch: 128, optimizer: {name: sgd, lr: 0.1, momentum: 0.9}}
preset: random
mask: {sparsity: 0.5}
search: {sampler: grid, trials: 3, concurrency: 3, cpus_per_trial: 0.5, controls: false}
"""


@pytest.fixture(autouse=True)
def known(trouble: Path) -> Iterator[None]:
    """Ray runs, and the model that makes trouble is known."""
    with troubles():
        yield


def test_a_trial_that_is_out_of_memory_is_tried_once_more_on_a_device_of_its_own(tmp_path: Path) -> None:
    from mlflow import MlflowClient

    (tmp_path / "hungry.yaml").write_text(SPACE)
    options = Options("hungry", default_uri(tmp_path))
    outcome = prune_search.launch(tmp_path / "hungry.yaml", where=Where(storage=tmp_path), options=options)
    assert outcome.as_data()["trials"] == {"completed": 2, "stopped": 0, "failed": 1, "duplicates": 0}
    records = read_search(search_folder(tmp_path, "hungry"))
    by_appetite = {
        appetite: [t for t in records.numbered() if t.recipe["task"]["model"]["appetite"] == appetite]
        for appetite in (0, 1, 2)
    }
    # Those that fit are left alone; those that a whole device is enough for end well; the others fail.
    assert [t.status for appetite in (0, 1, 2) for t in by_appetite[appetite]] == ["completed", "completed", "failed"]
    assert [t.retries for appetite in (0, 1, 2) for t in by_appetite[appetite]] == [0, 1, 1]
    definition = records.definition
    runs = {
        run.key: run
        for run in kept_runs(MlflowClient(options.tracking_uri), definition["experiment"], definition["id"])
    }
    for trial in by_appetite[2]:
        assert trial.ended is not None
        error = trial.ended.data["error"]
        assert error["kind"] == "oom"
        assert error["message"] == "the device is out of memory: CUDA out of memory. Tried to allocate 20.00 GiB."
        assert runs[trial.id].status == "FAILED"
        assert runs[trial.id].run.data.tags["error.kind"] == "oom"
    # While one has all of the machine no other one runs.
    alone = [(t.attempts[1].time, t.ended.time) for a in (1, 2) for t in by_appetite[a] if t.ended is not None]
    others = [(t.attempts[0].time, t.ended.time) for t in by_appetite[0] if t.ended is not None]
    assert all(end <= begin or other_end <= other for begin, other_end in alone for other, end in others)


@pytest.mark.parametrize(
    ("share", "alone"),
    [
        ({"cpus_per_trial": 1.0, "gpus_per_trial": 0.25}, {"CPU": 1.0, "GPU": 1.0}),
        ({"cpus_per_trial": 4.0, "gpus_per_trial": 2.0}, {"CPU": 4.0, "GPU": 2.0}),
        ({"cpus_per_trial": 0.5, "gpus_per_trial": 0.0}, {"CPU": 16.0}),
    ],
)
def test_a_whole_device_is_asked_for(share: dict[str, float], alone: dict[str, float]) -> None:
    small = {key: value for key, value in zip(("CPU", "GPU"), share.values(), strict=True) if value}
    assert _resources(share, 16.0, {"job": {"alone": False}}).bundles == [small]
    assert _resources(share, 16.0, {"job": {"alone": True}}).bundles == [alone]
