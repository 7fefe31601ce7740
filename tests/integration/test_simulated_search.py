"""`launch --simulate` from the command line on: marked everywhere, and never mixed with trained searches."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from command_line import Said, Typed
from told_search import Told

from prune_search.ledger.records import SearchRecords, TrialRecords, read_search
from prune_search.recipe import strict_yaml
from prune_search.tracking.delivery_thread import Undelivered
from prune_search.tracking.project import project

SPACE = """\
preset: late-rewinding
task: {data: fashion-mnist, model: lenet-300-100}
train: {steps: 10ep}
weights: {at: {hole: choice, of: [0it, 100it, 1ep]}}
rounds: {hole: int, low: 2, high: 5}
search:
  sampler: tpe
  trials: 6
  concurrency: 2
  scheduler: {name: asha, grace: 1ep}
  objectives: [maximize val/accuracy]
"""


class NoDelivery:
    """MLflow is not asked: what it would be told is computed from the records alone."""

    def __init__(self, folder: Path, uri: str, experiment: str) -> None:
        self.folder = folder

    def start(self) -> None:
        """Nothing."""

    def finish(self, seconds: float) -> Undelivered:
        """Nothing is left."""
        return Undelivered(0, None)


@pytest.fixture(autouse=True)
def undelivered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("prune_search.tracking.delivery_thread.DeliveryThread", NoDelivery)
    monkeypatch.setattr("os.fsync", lambda fd: None)


@pytest.fixture
def launched(tmp_path: Path, typed: Typed, monkeypatch: pytest.MonkeyPatch) -> Said:
    """A search on a data set whose files are nowhere."""
    monkeypatch.delenv("PRUNE_SEARCH_DATA", raising=False)
    (tmp_path / "space.yaml").write_text(SPACE)
    return typed("launch", str(tmp_path / "space.yaml"), "--simulate", "--name", "made", "--json")


def test_a_simulated_search_is_marked_as_one_wherever_it_is_shown(tmp_path: Path, launched: Said, typed: Typed) -> None:
    assert launched.code == 0, launched.err
    data = json.loads(launched.out)
    assert sum(data["trials"].values()) == 6
    assert data["steps_saved"] > 0
    assert data["experiment"] == "fashion-mnist-lenet-300-100-simulated"
    kept = json.loads((tmp_path / "searches/made/search.json").read_text())["simulated"]
    assert (kept["surface"]["name"], kept["content"]) == ("closed-form", "")
    assert json.loads(typed("status", "made", "--json").out)["simulated"] == "closed-form"
    assert "nothing is trained" in typed("status", "made").out
    said = typed("compare", "made")
    assert "(simulated: closed-form)" in said.out
    assert "prune-search export" not in said.out
    refused = typed("export", "made", "--to", str(tmp_path / "out"))
    assert (refused.code, "made: is simulated" in refused.err) == (2, True)
    Told.begin(tmp_path, "real").dense(0.9)
    mixed = typed("compare", "made", "real")
    assert mixed.code == 2
    views = project(read_search(tmp_path / "searches/made"), "finished")
    assert len(views) == 10
    assert {view.content.tags["simulated"] for view in views} == {"closed-form"}
    assert not any("simulated" in view.content.tags for view in project(read_search(tmp_path / "searches/real")))


def test_a_wrong_surface_is_one_line_and_leaves_no_search(tmp_path: Path, typed: Typed) -> None:
    (tmp_path / "space.yaml").write_text(SPACE)
    (tmp_path / "table.csv").write_text("density,val_acc\n0.1,0.9\n")
    space = str(tmp_path / "space.yaml")
    for surface, said in (
        ("closed-fom", "did you mean 'closed-form'"),
        ("{name: closed-form, failing: 7}", "failing"),
        ("{name: [}", "--surface"),
        (str(tmp_path / "none.csv"), "cannot be read"),
        (str(tmp_path / "table.csv"), "lacks the columns retrain_time, test_acc"),
    ):
        done = typed("launch", space, "--surface", surface)
        assert done.code == 2, done.err
        assert said in done.err
        assert "Traceback" not in done.err
        assert len(done.err.strip().splitlines()) == 1
    assert not (tmp_path / "searches").exists()


def test_a_surface_can_be_searched_from_python_and_resumed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import prune_search
    from prune_search.api.search import Options

    where = prune_search.Where(storage=tmp_path)
    raw = strict_yaml.load(SPACE)

    def listener(records: SearchRecords, trial: TrialRecords | None) -> None:
        if trial is not None and trial.id == "000004":
            raise KeyboardInterrupt

    options = Options(name="here", simulate={"name": "closed-form", "dying": 0.2})
    with pytest.raises(KeyboardInterrupt):
        prune_search.launch(raw, where=where, options=options, listener=listener)
    left = [trial for trial in read_search(tmp_path / "searches/here").numbered() if trial.ended is None]
    assert left
    outcome = prune_search.resume("here", where=where)
    assert sum(outcome.as_data()["trials"].values()) == 6
    assert outcome.records.simulated == "closed-form"
