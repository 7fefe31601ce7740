"""Launching and resuming, on simulated trials: what a search leaves behind, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from told_search import Told

from prune_search.api import search
from prune_search.api.search import Options, check_options, launch, resume
from prune_search.api.where import Where
from prune_search.ledger.records import ENDED_FILE, SEARCH_FILE, SearchRecords, TrialRecords, read_search
from prune_search.recipe.problems import UserError
from prune_search.storage.lease import Lease, LeaseHeldError
from prune_search.tracking.delivery_thread import Undelivered

TEXT = """\
preset: snip
task: {data: digits, model: mlp}
train: {steps: 2ep}
mask: {sparsity: {hole: uniform, low: 0.5, high: 0.9}}
search: {sampler: tpe, trials: 3, concurrency: 1, controls: false, seed: 1}
"""
SIMULATED = Options(simulate="closed-form")


class NoDelivery:
    """MLflow is not asked."""

    def __init__(self, folder: Path, uri: str, experiment: str) -> None:
        self.folder = folder

    def start(self) -> None:
        """Nothing."""

    def finish(self, seconds: float) -> Undelivered:
        """Nothing is left."""
        return Undelivered(0, None)


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """No MLflow, no pictures, and no waiting for the disk."""
    monkeypatch.setattr("prune_search.tracking.delivery_thread.DeliveryThread", NoDelivery)
    monkeypatch.setattr(search, "draw", lambda records: None)
    monkeypatch.setattr("os.fsync", lambda handle: None)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "mine.yaml"
    path.write_text(TEXT)
    return path


def test_a_launch_runs_the_search_to_its_end_and_tells_its_listener(file: Path, tmp_path: Path) -> None:
    told: list[str] = []

    def listen(records: SearchRecords, trial: TrialRecords | None) -> None:
        told.append("started" if trial is None else trial.id)

    outcome = launch(file, where=Where(storage=tmp_path), options=SIMULATED, listener=listen)
    assert outcome.signal is None
    assert [name for name in told if name != "started"] == ["000001", "000002", "000003"]
    folder = tmp_path / "searches" / "mine"
    assert (folder / ENDED_FILE).is_file()
    definition = read_search(folder).definition
    assert (definition["text"], definition["source"]) == (TEXT, str(file))
    data = outcome.as_data()
    assert json.loads(json.dumps(data, allow_nan=False)) == data
    assert data["trials"] == {"completed": 3, "stopped": 0, "failed": 0, "duplicates": 0}
    assert data["best"]["metrics"]["val/accuracy"] == max(
        trial.metrics["val/accuracy"] for trial in outcome.records.numbered()
    )


def test_a_name_that_is_taken_is_refused_and_a_finished_one_that_was_not_typed_is_numbered(
    file: Path, tmp_path: Path
) -> None:
    where = Where(storage=tmp_path)
    launch(file, where=where, options=SIMULATED)
    assert launch(file, where=where, options=SIMULATED).records.name == "mine-2"
    named = Options(name="mine", simulate="closed-form")
    for refused in (lambda: launch(file, where=where, options=named), lambda: check_options(named, where)):
        with pytest.raises(UserError, match="--name: a search 'mine' already exists"):
            refused()
    with pytest.raises(UserError, match="--tracking-uri"):
        check_options(Options(tracking_uri="ftp://x"), where)


def test_what_cannot_even_begin_leaves_no_search_behind(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    where = Where(storage=tmp_path, data_root=tmp_path)
    for values, said in (
        (
            {"search.scheduler": "asha", "search.objectives": ["minimize model/nonzero", "maximize val/accuracy"]},
            "asha",
        ),
        ({"task.data": "mnist"}, "mnist"),
    ):
        with pytest.raises(UserError, match=said):
            launch(file, set=values, where=where)
    assert not (tmp_path / "searches" / "mine" / SEARCH_FILE).exists()

    def refuses(*_: Any) -> None:
        raise UserError("this machine has no GPU")

    monkeypatch.setattr(search, "_trained", lambda space, options, examples: refuses)
    with pytest.raises(UserError, match="no GPU"):
        launch(file, where=where)
    assert not (tmp_path / "searches" / "mine" / SEARCH_FILE).exists()


def test_a_search_that_was_cut_off_is_continued_to_the_same_end(file: Path, tmp_path: Path) -> None:
    whole = launch(file, where=Where(storage=tmp_path / "whole"), options=SIMULATED)
    cut = Where(storage=tmp_path / "cut")

    def stop_after_one(records: SearchRecords, trial: TrialRecords | None) -> None:
        if trial is not None:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        launch(file, where=cut, options=SIMULATED, listener=stop_after_one)
    assert not (tmp_path / "cut" / "searches" / "mine" / ENDED_FILE).exists()
    outcome = resume("mine", where=cut)
    assert [trial.metrics for trial in outcome.records.numbered()] == [
        trial.metrics for trial in whole.records.numbered()
    ]


def test_an_edited_space_is_refused_with_what_changed_and_forked_on_request(file: Path, tmp_path: Path) -> None:
    where = Where(storage=tmp_path)
    launch(file, where=where, options=SIMULATED)
    file.write_text(TEXT.replace("trials: 3", "trials: 4"))
    with pytest.raises(UserError, match=r"search\.trials: 3 became 4.*resume with --fork"):
        resume("mine", where=where)
    outcome = resume("mine", where=where, fork=True)
    assert outcome.records.name == "mine-fork"
    assert len(outcome.records.numbered()) == 4
    assert outcome.records.definition["simulated"]["surface"]["name"] == "closed-form"


@pytest.mark.slow
def test_what_is_running_is_not_resumed_and_what_came_from_no_file_is_not_forked(tmp_path: Path) -> None:
    where = Where(storage=tmp_path)
    told = Told.begin(tmp_path, "monday")
    with Lease(told.folder, lost=lambda: None), pytest.raises(LeaseHeldError):
        resume("monday", where=where)
    with pytest.raises(UserError, match="nothing"):
        resume("nothing", where=where)
    raw = {"preset": "snip", "mask": {"sparsity": {"hole": "uniform", "low": 0.5, "high": 0.9}}}
    launch(
        {**raw, "search": {"trials": 1, "controls": False}},
        where=where,
        options=Options("plain", simulate="closed-form"),
    )
    with pytest.raises(UserError, match="--fork: the search was not launched from a file"):
        resume("plain", where=where, fork=True)
