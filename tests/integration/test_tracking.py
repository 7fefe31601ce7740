"""A search in MLflow's own SQLite store."""

from __future__ import annotations

import contextlib
import itertools
import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
from command_line import Typed
from made_search import make_search
from real_mlflow import MLFLOW_WARNINGS, Kept, kept_runs, local_server

from prune_search.ledger.records import SearchRecords, read_search
from prune_search.ledger.state import state_of
from prune_search.tracking.delivery_thread import DeliveryThread, sync
from prune_search.tracking.project import project
from prune_search.tracking.server import MlflowServer, connect
from prune_search.tracking.settings import settings

pytestmark = [MLFLOW_WARNINGS, pytest.mark.slow]


@pytest.fixture(scope="module")
def storage(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A storage whose database and experiment are made once."""
    storage = tmp_path_factory.mktemp("storage")
    sync(make_search(storage, "first", trials=1, points=1))
    return storage


def kept(folder: Path) -> list[Kept]:
    from mlflow import MlflowClient

    search = read_search(folder)
    definition = search.definition
    return kept_runs(MlflowClient(search.tracking_uri), definition["experiment"], definition["id"])


def check(folder: Path, search: SearchRecords | None = None) -> list[Kept]:
    """MLflow holds exactly what the records say: no run, no value twice, none missing."""
    search = search or read_search(folder)
    views = {view.key: view for view in project(search, state_of(search))}
    found = kept(folder)
    assert sorted(item.key for item in found) == sorted(views)
    parent = next(item.run.info.run_id for item in found if item.key == "")
    for item in found:
        view = views[item.key]
        points = [(point.name, point.step, point.time_ms, point.value) for point in view.content.points]
        assert sorted(item.rows) == sorted(points)
        assert item.run.data.params == dict(view.content.params)
        assert (item.run.info.run_name, item.status) == (view.name, view.status)
        assert (item.run.info.start_time, item.run.info.end_time) == (view.times.start_ms, view.times.end_ms)
        expected = {name: text for name, text in view.content.tags.items() if "{experiment}" not in text}
        assert {name: item.run.data.tags.get(name) for name in expected} == expected
        assert item.run.data.tags.get("mlflow.parentRunId") == (None if item.key == "" else parent)
        data = [(entry.dataset.name, entry.dataset.digest) for entry in item.run.inputs.dataset_inputs]
        assert data == [(entry.name, entry.digest) for entry in view.content.data]
        folder_of_run = Path(unquote(item.run.info.artifact_uri.removeprefix("file://")))
        texts = {path.name: path.read_text() for path in folder_of_run.iterdir()} if folder_of_run.exists() else {}
        assert texts == dict(view.content.artifacts)
    return found


@pytest.mark.slow
def test_24_trials_and_the_control_appear_once_however_often_they_are_delivered(
    storage: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = make_search(storage, "full", trials=24, points=3)
    first = sync(folder)
    found = check(folder)
    assert len(found) == 26
    assert "RUNNING" not in {item.status for item in found}
    assert sync(folder).operations == 0
    shutil.rmtree(folder / "tracking")
    again = sync(folder)
    assert (again.runs, again.metrics) == (0, 0)
    assert first.metrics > 400
    check(folder)
    assert capfd.readouterr() == ("", "")


def test_the_same_row_twice_is_one_row(storage: Path) -> None:
    """What delivery relies on, of MLflow itself."""
    from mlflow.entities import Metric

    folder = make_search(storage, "rows", trials=1, points=1)
    sync(folder)
    item = next(item for item in kept(folder) if item.key == "000001")
    with settings():
        server = connect(read_search(folder).tracking_uri)
        assert isinstance(server, MlflowServer)
        server.client.log_batch(item.run.info.run_id, metrics=[Metric(k, v, t, s) for k, s, t, v in item.rows])
    check(folder)


class Killed(BaseException):
    """The process dies here."""


@dataclass
class Interrupted:
    """mlflow's client, whose call number `at` is interrupted before or after it is carried out."""

    at: int
    after: bool
    error: BaseException
    calls: int = 0
    client: Any = None

    def connect(self, uri: str) -> MlflowServer:
        """Stand between a server and its client."""
        server = connect(uri)
        assert isinstance(server, MlflowServer)
        self.client, server.client = server.client, self  # type: ignore[assignment]
        return server

    def __getattr__(self, name: str) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            self.calls += 1
            if self.calls == self.at and not self.after:
                raise self.error
            answer = getattr(self.client, name)(*args, **kwargs)
            if self.calls == self.at:
                raise self.error
            return answer

        return call


@pytest.mark.slow
@pytest.mark.parametrize("after", [pytest.param(False, marks=pytest.mark.slow), True])
def test_interrupted_at_any_call_nothing_is_twice_and_nothing_is_missing(storage: Path, after: bool) -> None:
    for at in itertools.count(1):
        folder = make_search(storage, f"killed-{after}-{at}", trials=1, points=1, control=False)
        client = Interrupted(at, after, Killed())
        with contextlib.suppress(Killed):
            sync(folder, connector=client.connect)
        if client.calls < at:
            break
        sync(folder)
        check(folder)
    assert at > 12


@pytest.mark.parametrize("at", [*(pytest.param(at, marks=pytest.mark.slow) for at in (3, 4, 5)), 7])
def test_an_answer_that_is_lost_is_made_good_at_once(storage: Path, at: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Calls 3 to 5 find the runs, make the search's run and make the trial's."""
    monkeypatch.setattr("prune_search.tracking.delivery_thread.FIRST_PAUSE_S", 0.0)
    folder = make_search(storage, f"lost-{at}", trials=1, points=1, control=False)
    sync(folder, connector=Interrupted(at, True, ConnectionResetError("reset by peer")).connect)
    check(folder)


def test_two_that_make_one_experiment_at_once_get_the_same(storage: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from mlflow.exceptions import MlflowException

    uri = f"sqlite:///{storage}/mlflow.db"
    with settings():
        server = connect(uri)
        assert isinstance(server, MlflowServer)
        first = server.experiment("shared", storage / "mlartifacts", {"a": "b"})
        real = server.client.get_experiment_by_name
        answers = iter([None])
        # It was not there when it was asked for, and is there when it is made.
        monkeypatch.setattr(server.client, "get_experiment_by_name", lambda name: next(answers, real(name)))
        assert server.experiment("shared", storage / "mlartifacts", {"a": "b"}) == first
        with pytest.raises(MlflowException, match="already exists"):
            server.client.create_experiment("shared")


@pytest.mark.slow
def test_a_new_experiment_keeps_its_files_in_the_storage(storage: Path, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    sync(make_search(storage, "files", trials=1, points=1))
    found = kept(storage / "searches" / "files")
    assert all(item.run.info.artifact_uri.startswith(f"file://{storage}/mlartifacts/") for item in found)
    assert list(tmp_path.iterdir()) == []


def test_a_deleted_experiment_is_said_in_one_line(storage: Path) -> None:
    from mlflow import MlflowClient

    from prune_search.tracking.delivery_thread import TrackingError

    folder = make_search(storage, "lost", trials=1, points=1)
    definition = json.loads((folder / "search.json").read_text())
    (folder / "search.json").write_text(json.dumps({**definition, "experiment": "thrown-away"}))
    client = MlflowClient(read_search(folder).tracking_uri)
    client.delete_experiment(client.create_experiment("thrown-away"))
    with pytest.raises(TrackingError, match=r"refused: the experiment 'thrown-away' was deleted in MLflow: restore it"):
        sync(folder)


@pytest.mark.slow
def test_the_thread_delivers_to_the_store(storage: Path) -> None:
    folder = make_search(storage, "thread", trials=2, points=2)
    search = read_search(folder)
    delivery_thread = DeliveryThread(folder, search.tracking_uri, search.definition["experiment"])
    delivery_thread.start()
    left = delivery_thread.finish(60)
    assert (left.waiting, left.reason) == (0, "")
    found = check(folder)
    assert left.parent_run_id == next(item.run.info.run_id for item in found if item.key == "")


def artifact_texts(client: Any, run_id: str, folder: Path) -> dict[str, str]:
    """A run's files as MLflow gives them out: by name, their content."""
    folder.mkdir()
    names = [item.path for item in client.list_artifacts(run_id) if not item.is_dir]
    return {name: Path(client.download_artifacts(run_id, name, str(folder))).read_text() for name in names}


@pytest.mark.slow
def test_a_storage_of_any_name_has_its_database_and_its_files_also_where_it_is_moved_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home, work = tmp_path / "home", tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    storage, moved = home / "job_%2Fx?a=1&b#c 'ü" / "100%", tmp_path / "elsewhere" / "%41?"
    assert sync(make_search(storage, "one", trials=1, points=1)).operations > 0
    folder = moved / "searches" / "one"
    moved.parent.mkdir()
    shutil.move(storage, moved)
    shutil.rmtree(home)
    # Only the notes that name the storage are new.
    again = sync(folder)
    assert (again.runs, again.metrics) == (0, 0)
    assert sync(folder).operations == 0
    check(folder)
    assert sync(make_search(moved, "two", trials=1, points=1)).operations > 0
    check(folder)
    check(moved / "searches" / "two")
    # Nothing was made by a misread name: not where the storage was, not beside it, not in the working directory.
    assert not home.exists()
    assert [path.name for path in moved.parent.iterdir()] == ["%41?"]
    assert list(work.iterdir()) == []
    assert sorted(path.name for path in moved.iterdir()) == ["mlartifacts", "mlflow.db", "searches"]


@pytest.mark.services
def test_the_pages_of_a_storage_of_any_name_have_its_files(tmp_path: Path) -> None:
    from mlflow import MlflowClient

    storage = tmp_path / "job_%2Fx?a=1#c 'ü"
    folder = make_search(storage, "one", trials=1, points=1)
    with local_server(storage) as server:
        assert sync(folder).operations > 0
        definition = read_search(folder).definition
        client = MlflowClient(server.uri)
        runs = kept_runs(client, definition["experiment"], definition["id"])
        trial = next(item for item in runs if item.key)
        assert "recipe.yaml" in artifact_texts(client, trial.run.info.run_id, tmp_path / "files")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["files", storage.name]


@pytest.mark.slow
def test_a_launch_says_at_its_end_why_records_have_not_arrived(
    storage: Path, typed: Typed, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow import MlflowClient

    monkeypatch.setattr("prune_search.api.search.FINISH_TRACKING_S", 3.0)
    client = MlflowClient(f"sqlite:///{storage}/mlflow.db")
    client.delete_experiment(client.create_experiment("digits-mlp-simulated"))
    words = ("launch", "quickstart", "--simulate", "--trials", "1", "--set", "search.controls=false")
    for uri, why in (
        (f"sqlite:///{storage}/mlflow.db", "the experiment 'digits-mlp-simulated' was deleted in MLflow"),
        ("http://127.0.0.1:1", "Connection refused"),
    ):
        said = typed(*words, "--tracking-uri", uri)
        assert said.code == 0
        line = next(line for line in said.err.splitlines() if "have not reached MLflow" in line)
        assert f" at {uri} yet: " in line
        assert why in line
        assert "Deliver them later with: prune-search sync quickstart" in line
        told = json.loads(typed(*words, "--tracking-uri", uri, "--json").out)
        assert told["undelivered"] > 0
        assert why in told["undelivered_reason"]
