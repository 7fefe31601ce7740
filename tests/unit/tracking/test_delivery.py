"""Nothing is sent twice and nothing is missing, whatever is interrupted; on an MLflow in memory."""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pytest
from fake_mlflow import FakeServer, Killed, Store, StoredRun, away
from made_search import make_search

from prune_search.ledger.records import read_search
from prune_search.ledger.state import state_of
from prune_search.tracking.delivered_log import memory_folder, only_writer
from prune_search.tracking.delivery_thread import TrackingError, sync
from prune_search.tracking.hole_weights import keep_weights
from prune_search.tracking.project import project
from prune_search.tracking.run_content import Content, DataSet, RunView
from prune_search.tracking.server import RefusedError, UnreachableError

URI = "http://tracking.example:5000"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A search of 5 trials and a control, which is only read."""
    return make_search(tmp_path_factory.mktemp("made"), trials=5, points=2)


@pytest.fixture
def folder(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "searches" / made.name))


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("prune_search.tracking.delivery_thread.time.sleep", lambda seconds: None)


def wanted(folder: Path) -> dict[str, RunView]:
    search = read_search(folder)
    return {view.key: view for view in project(search, state_of(search))}


def check(store: Store, folder: Path) -> None:
    """The store holds exactly what the records say."""
    views, runs = wanted(folder), store.by_key()
    assert set(runs) == set(views)
    parent = next(run_id for run_id, run in store.runs.items() if not run.deleted and "trial.id" not in run.tags)
    for key, view in views.items():
        run, content = runs[key], view.content
        assert (run.name, run.status, run.start_ms, run.end_ms) == (
            view.name,
            view.status,
            view.times.start_ms,
            view.times.end_ms,
        )
        assert run.params == dict(content.params)
        assert run.values() == {(point.name, point.step): point.value for point in content.points}
        assert run.artifacts == dict(content.artifacts)
        assert run.data == {(item.name, item.digest) for item in content.data}
        parents = {} if key == "" else {"mlflow.parentRunId": parent}
        assert run.tags == {
            **{name: text.replace("{experiment}", "1") for name, text in content.tags.items()},
            **parents,
        }


def calls_of_one_sync(folder: Path) -> int:
    store = Store()
    sync(folder, URI, store.connect)
    shutil.rmtree(folder / "tracking")
    return len(store.calls)


def raising(at: int, error: BaseException) -> Callable[[int], None]:
    def act(number: int) -> None:
        if number == at:
            raise error

    return act


def test_everything_is_there_after_one_delivery(folder: Path) -> None:
    store = Store()
    delivered = sync(folder, URI, store.connect)
    check(store, folder)
    assert delivered.runs == 7
    assert delivered.metrics == sum(len(view.content.points) for view in wanted(folder).values())


def test_a_second_delivery_sends_nothing(folder: Path) -> None:
    store = Store()
    sync(folder, URI, store.connect)
    before = len(store.calls)
    assert sync(folder, URI, store.connect).operations == 0
    assert {name for name, _ in store.calls[before:]} == {"experiment", "runs"}
    check(store, folder)


@pytest.mark.slow
@pytest.mark.parametrize("when", ["before", "after"])
def test_a_process_killed_at_any_call_leaves_nothing_twice_and_nothing_out(folder: Path, when: str) -> None:
    for at in range(1, calls_of_one_sync(folder) + 1):
        store = Store()
        setattr(store, when, raising(at, Killed()))
        with contextlib.suppress(Killed):
            sync(folder, URI, store.connect)
        setattr(store, when, lambda number: None)
        sync(folder, URI, store.connect)
        check(store, folder)
        shutil.rmtree(folder / "tracking")


@pytest.mark.parametrize("when", [pytest.param("before", marks=pytest.mark.slow), "after"])
def test_an_answer_lost_at_any_call_is_asked_for_and_the_call_is_not_simply_repeated(folder: Path, when: str) -> None:
    for at in range(1, calls_of_one_sync(folder) + 1):
        store = Store()
        setattr(store, when, raising(at, UnreachableError("the connection was reset")))
        sync(folder, URI, store.connect)
        check(store, folder)
        shutil.rmtree(folder / "tracking")


def test_what_was_sent_is_asked_for_where_all_notes_are_lost(folder: Path) -> None:
    store = Store()
    sync(folder, URI, store.connect)
    shutil.rmtree(folder / "tracking")
    assert sync(folder, URI, store.connect).runs == 0
    check(store, folder)


def test_a_cut_or_foreign_line_among_the_notes_does_no_harm(folder: Path) -> None:
    store = Store()
    sync(folder, URI, store.connect)
    (notes,) = memory_folder(folder, URI).glob("*.jsonl")
    notes.write_bytes(notes.read_bytes()[:-25] + b'\n{"run": 3, "steps": 5}\n[]\n\xff\n')
    sync(folder, URI, store.connect)
    check(store, folder)


class Late(FakeServer):
    """So slow that it makes the run of a lost call only after it was asked which runs there are."""

    lost: StoredRun | None = None
    told = False

    def create(self, experiment: str, name: str, start_ms: int, tags: Mapping[str, str]) -> str:
        if self.lost is None:
            self.lost = StoredRun(name, start_ms, tags=dict(tags))
            raise UnreachableError("timed out")
        return super().create(experiment, name, start_ms, tags)

    def log(self, run_id: str, part: Content) -> None:
        if self.lost is not None and not self.told:
            self.told = True
            self.store.runs["late"] = self.lost
            raise UnreachableError("timed out")
        super().log(run_id, part)


def test_a_run_that_was_made_after_its_answer_was_given_up_is_deleted(folder: Path) -> None:
    store = Store()
    sync(folder, URI, lambda uri: Late(store))
    assert store.runs["late"].deleted
    check(store, folder)


def partly_sent(folder: Path, calls: int) -> Store:
    """A store that got only so many calls."""
    store = Store(before=raising(calls + 1, Killed()))
    with contextlib.suppress(Killed):
        sync(folder, URI, store.connect)
    store.before = lambda number: None
    return store


def test_a_run_that_a_user_deleted_stays_deleted_and_hinders_nothing(folder: Path) -> None:
    store = partly_sent(folder, 4)
    half = store.by_key()["000001"]
    assert half.rows == set()
    half.deleted = True
    sync(folder, URI, store.connect)
    assert set(store.by_key()) == set(wanted(folder)) - {"000001"}
    assert sync(folder, URI, store.connect).operations == 0
    half.deleted = False
    sync(folder, URI, store.connect)
    check(store, folder)


def test_a_search_that_a_user_deleted_is_left_alone(folder: Path) -> None:
    store = partly_sent(folder, 6)
    store.by_key()[""].deleted = True
    assert sync(folder, URI, store.connect).operations == 0
    assert set(store.by_key()) == {"000001"}


def test_a_store_that_was_emptied_is_filled_again(folder: Path) -> None:
    sync(folder, URI, Store().connect)
    store = Store()
    sync(folder, URI, store.connect)
    check(store, folder)


def test_two_stores_are_two_deliveries(folder: Path) -> None:
    first, second = Store(), Store()
    sync(folder, URI, first.connect)
    sync(folder, "http://other.example", second.connect)
    check(first, folder)
    check(second, folder)
    assert sync(folder, URI, first.connect).operations == 0


def test_notes_are_the_same_whatever_the_password(folder: Path) -> None:
    store = Store()
    sync(folder, "http://me:old-secret@tracking.example", store.connect)
    assert sync(folder, "http://me:new-secret@tracking.example", store.connect).operations == 0


def test_a_value_that_was_sent_stays_though_an_earlier_attempt_turns_up_late(folder: Path) -> None:
    store = Store()
    sync(folder, URI, store.connect)
    before = store.by_key()["000001"].values()
    record = next((folder / "trials" / "000001").glob("measured-001-000000.json"))
    record.write_text(record.read_text().replace('"val/accuracy":0.', '"val/accuracy":0.1'))
    shutil.rmtree(folder / "tracking")
    sync(folder, URI, store.connect)
    assert store.by_key()["000001"].values() == before


def test_what_mlflow_refuses_of_one_run_does_not_keep_back_the_others(folder: Path) -> None:
    class Picky(FakeServer):
        def put_data(self, run_id: str, data: Sequence[DataSet]) -> None:
            if self.store.runs[run_id].tags.get("trial.id") == "000002":
                raise RefusedError("no such kind of data")
            super().put_data(run_id, data)

    store = Store()
    with pytest.raises(TrackingError, match=r"MLflow at http://tracking.example:5000 refused 002-.*no such kind"):
        sync(folder, URI, lambda uri: Picky(store))
    runs, views = store.by_key(), wanted(folder)
    assert set(runs) == set(views)
    assert runs["000005"].status == views["000005"].status
    sync(folder, URI, store.connect)
    check(store, folder)


def test_files_that_cannot_be_stored_keep_nothing_else_back(folder: Path) -> None:
    class NoFiles(FakeServer):
        def put_artifacts(self, run_id: str, files: Mapping[str, str]) -> None:
            self.store.called("put_artifacts")
            raise UnreachableError("no credentials for s3://bucket")

    store = Store()
    with pytest.raises(TrackingError, match=r"takes no files: no credentials for s3://bucket$"):
        sync(folder, URI, lambda uri: NoFiles(store))
    views = wanted(folder)
    assert {key: run.status for key, run in store.by_key().items()} == {key: view.status for key, view in views.items()}
    # One try a round, not one a file.
    assert [name for name, _ in store.calls].count("put_artifacts") == 3
    sync(folder, URI, store.connect)
    check(store, folder)


def test_a_server_of_which_every_third_answer_is_lost_gets_everything(folder: Path) -> None:
    store = Store(after=lambda number: away(number) if number % 3 == 0 else None)
    sync(folder, URI, store.connect)
    check(store, folder)


def test_a_server_that_is_away_is_one_line_without_the_password(folder: Path) -> None:
    store = Store(before=away)
    with pytest.raises(TrackingError) as caught:
        sync(folder, "http://user:pass-word@tracking.example", store.connect)
    assert str(caught.value) == (
        "MLflow at http://***@tracking.example cannot be reached: connection refused by http://***@host/api"
    )


def test_one_process_delivers_at_a_time(folder: Path) -> None:
    with (
        only_writer(memory_folder(folder, URI)),
        pytest.raises(TrackingError, match="a running search delivers on its own"),
    ):
        sync(folder, URI, Store().connect)


def test_the_experiment_carries_the_view_of_the_search(folder: Path) -> None:
    store = Store()
    sync(folder, URI, store.connect)
    identity = read_search(folder).definition["id"]
    views = [f"mlflow.sharedViewState.{name}" for name in (identity, f"{identity}-charts", "searches")]
    assert list(store.experiments["digits/mlp"]) == views
    note = store.by_key()[""].tags["mlflow.note.content"]
    assert f"(#/experiments/1/runs?workflowType=machine_learning&viewStateShareKey={identity})" in note


def test_once_it_is_known_what_mattered_the_charts_begin_with_it(folder: Path) -> None:
    store = Store()
    sync(folder, URI, store.connect)
    (folder / "pictures").mkdir()
    weights = {"sparsity": None, "option": None, "knobs": {"train.optimizer.lr": 0.9, "any": 0.1}}
    keep_weights(folder / "pictures", [weights])
    before = dict(store.experiments["digits/mlp"])
    sync(folder, URI, store.connect)
    after, identity = store.experiments["digits/mlp"], read_search(folder).definition["id"]
    axes = [
        json.loads(tags[f"mlflow.sharedViewState.{identity}-charts"])["compareRunCharts"][1]["selectedParams"]
        for tags in (before, after)
    ]
    assert axes[0] != axes[1]
    assert axes[1] == ["log10 train.optimizer.lr", "paradigm"]


def test_what_names_the_run_of_the_search_is_sent_once_it_has_a_number(folder: Path) -> None:
    (folder / "pictures").mkdir()
    (folder / "pictures" / "pareto.svg").write_text("<svg/>")
    store = Store()
    sync(folder, URI, store.connect)
    note = store.by_key()[""].tags["mlflow.note.content"]
    (identity,) = [key for key, run in store.runs.items() if not run.tags.get("trial.id")]
    assert f"get-artifact?path=pictures%2Fpareto.svg&run_uuid={identity}" in note
    assert sync(folder, URI, store.connect).operations == 0
