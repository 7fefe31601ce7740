"""What MLflow's answers become: one line, without passwords, and told apart by whether asking again can help."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from prune_search.tracking.run_content import RUNNING
from prune_search.tracking.server import (
    MISSING,
    MlflowServer,
    RefusedError,
    UnreachableError,
    answers,
    knock,
)

URI = "http://team:secret@mlflow:5000"


class MlflowError(Exception):
    """As mlflow raises it."""

    def __init__(self, text: str, code: str) -> None:
        super().__init__(text)
        self.error_code = code


def test_a_refusal_is_told_from_no_answer_and_neither_shows_a_password() -> None:
    with pytest.raises(RefusedError, match=r"no such run") as refused, answers(URI):
        raise MlflowError(f"no such run\nat {URI}", MISSING)
    assert refused.value.missing
    with pytest.raises(RefusedError) as refused, answers(URI):
        raise MlflowError("too long", "INVALID_PARAMETER_VALUE")
    assert not refused.value.missing
    text = f"HTTPConnectionPool: Max retries exceeded with url: {URI} (Caused by NewConnectionError('refused'))"
    with pytest.raises(UnreachableError) as away, answers(URI):
        raise ConnectionError(text)
    assert str(away.value) == "NewConnectionError('refused"
    for told in (refused, away):
        assert "secret" not in str(told.value)
        assert "\n" not in str(told.value)
    # What was said already stays as it is.
    with pytest.raises(UnreachableError, match=r"^mine$"), answers(URI):
        raise UnreachableError("mine")


def test_a_database_is_knocked_at_where_it_is_said_to_be_and_nothing_else_is() -> None:
    knock("sqlite:///nowhere/mlflow.db")
    knock("http://127.0.0.1:1")
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        knock(f"postgresql+psycopg://team:secret@127.0.0.1:{port}/mlflow")
    with pytest.raises(UnreachableError, match="the database does not answer: ") as told:
        knock(f"mysql://team:secret@127.0.0.1:{port}/mlflow")
    assert "secret" not in str(told.value)


class Page(list[Any]):
    """A page of runs."""

    token: str | None = None


def run(identity: str, **tags: str) -> Any:
    info = SimpleNamespace(run_id=identity, status="RUNNING", lifecycle_stage="active")
    found = {name.replace("_", "."): value for name, value in tags.items()}
    return SimpleNamespace(info=info, data=SimpleNamespace(tags=found, params={"a": "1"}, metrics={"b": 2.0}))


class Client:
    """As much of mlflow's client as is asked here; the real one is asked by tests/integration/test_tracking.py."""

    def __init__(self) -> None:
        self.told: list[tuple[Any, ...]] = []

    def search_runs(self, experiments: list[str], text: str, max_results: int, page_token: str | None) -> Page:
        page = Page([run("second", trial_id="000002", search_id="s")] if page_token else [run("first", search_id="s")])
        page.token = None if page_token else "more"
        return page

    def get_run(self, identity: str) -> Any:
        raise MlflowError("no such run", {"gone": MISSING}.get(identity, "INVALID_PARAMETER_VALUE"))

    def get_experiment_by_name(self, name: str) -> Any:
        stage = "deleted" if name == "deleted" else "active"
        return SimpleNamespace(experiment_id=7, lifecycle_stage=stage, tags={"kept": "1", "old": "1"})

    def set_experiment_tag(self, *words: Any) -> None:
        self.told.append(words)

    def update_run(self, identity: str, status: str) -> None:
        self.told.append((identity, status))

    def set_terminated(self, identity: str, status: str, end_time: int) -> None:
        self.told.append((identity, status, end_time))

    def log_artifacts(self, identity: str, folder: str) -> None:
        files = {str(path.relative_to(folder)): path.read_text() for path in Path(folder).rglob("*") if path.is_file()}
        self.told.append((identity, files))


def served() -> tuple[MlflowServer, Client]:
    client: Any = Client()
    return MlflowServer(client, URI), client


def test_runs_are_read_page_by_page() -> None:
    server, _ = served()
    assert [(found.run_id, found.key, found.search) for found in server.runs("7", "s")] == [
        ("first", "", "s"),
        ("second", "000002", "s"),
    ]
    assert server.runs("7", "s")[0].params == {"a"}


def test_a_run_that_is_gone_is_none_and_any_other_refusal_is_one() -> None:
    server, _ = served()
    assert server.look("gone") is None
    with pytest.raises(RefusedError):
        server.look("odd")


def test_only_tags_that_differ_are_set_and_a_deleted_experiment_is_refused() -> None:
    server, client = served()
    tags: Mapping[str, str] = {"kept": "1", "old": "2", "new": "3"}
    assert server.experiment("digits-mlp", None, tags) == "7"
    assert client.told == [(7, "old", "2"), (7, "new", "3")]
    with pytest.raises(RefusedError, match="the experiment 'deleted' was deleted in MLflow: restore it there"):
        server.experiment("deleted", None, {})


def test_a_run_that_goes_on_has_no_end_and_files_are_sent_in_one_call() -> None:
    server, client = served()
    server.set_status("first", RUNNING, None)
    server.set_status("first", "FINISHED", 123)
    server.put_artifacts("first", {"note.md": "text", "pictures/one.svg": "<svg/>"})
    assert client.told == [
        ("first", RUNNING),
        ("first", "FINISHED", 123),
        ("first", {"note.md": "text", "pictures/one.svg": "<svg/>"}),
    ]
