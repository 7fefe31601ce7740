"""Code and servers that a search names are used only where this user has said so."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from told_search import Told

from prune_search.api.trust import allowed_code, check_tracking, checked, launched_here, remember
from prune_search.api.where import Where
from prune_search.recipe.problems import UserError
from prune_search.search.given_code import settings_digest
from prune_search.tasks.task import Task, Whole


@pytest.fixture(autouse=True)
def nobody_around(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


def definition(storage: Path, **changes: Any) -> dict[str, Any]:
    return {**Told.begin(storage).records.definition, **changes}


def test_the_note_of_a_launch_is_of_exactly_that_definition(tmp_path: Path) -> None:
    mine = definition(tmp_path)
    assert not launched_here(mine)
    remember(mine)
    assert launched_here(mine)
    assert not launched_here({**mine, "code": {"model": "evil:net", "data": None}})


def test_code_runs_where_it_is_named_again_or_was_launched_here(tmp_path: Path) -> None:
    foreign = definition(tmp_path, code={"model": "theirs:net", "data": None})
    with pytest.raises(UserError, match="theirs:net"):
        allowed_code(foreign, Where(), "told")
    with pytest.raises(UserError):
        allowed_code(foreign, Where(model="mine:net"), "told")
    assert allowed_code(foreign, Where(model="theirs:net"), "told")["model"] == "theirs:net"
    remember(foreign)
    assert allowed_code(foreign, Where(), "told")["model"] == "theirs:net"


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ({"model": "theirs:task", "data": "theirs:task"}, "--task theirs:task"),
        ({"model": "theirs:net", "data": "theirs:data"}, "--model theirs:net --data theirs:data"),
        ({"model": None, "data": "theirs:data"}, "--data theirs:data"),
    ],
)
def test_what_has_to_be_typed_for_foreign_code_is_said(tmp_path: Path, code: dict[str, str | None], words: str) -> None:
    with pytest.raises(UserError, match=f"Review the code, then pass {words}$"):
        allowed_code(definition(tmp_path, code=code), Where(), "told")


def test_a_task_is_the_code_that_it_gives(tmp_path: Path) -> None:
    both = definition(tmp_path, code={"model": "theirs:task", "data": "theirs:task"})
    assert allowed_code(both, Where(task="theirs:task"), "told") == {"model": "theirs:task", "data": "theirs:task"}
    with pytest.raises(UserError, match=r"^told: --task: .* launched with 'theirs:task' \(got 'my:task'\)$"):
        allowed_code(both, Where(task="my:task"), "told")
    # The network is a registered one.
    data = {**both, "code": {"model": None, "data": "theirs:task"}}
    assert allowed_code(data, Where(task="theirs:task"), "told") == {"model": None, "data": "theirs:task"}
    none = {**both, "code": {"model": None, "data": None}}
    with pytest.raises(UserError, match="--task: the search uses no custom code"):
        allowed_code(none, Where(task="my:task"), "told")


def test_a_task_that_was_given_as_it_is_has_to_be_given_again(tmp_path: Path) -> None:
    def task(scale: float) -> Task:
        return Task(model=torch.nn.Identity, train=(scale * torch.ones(8, 2), torch.zeros(8)), validation=0.5)

    digest = settings_digest(Whole(task(1.0)))
    name = "prune_search.tasks.task:Whole"
    launched = definition(tmp_path, code={"model": name, "data": name}, given={"model": digest, "data": digest})
    assert set(allowed_code(launched, Where(task=task(1.0)), "told")) == {"model", "data"}
    with pytest.raises(UserError, match=r"--task: .*:Whole has other arguments than") as caught:
        allowed_code(launched, Where(task=task(2.0)), "told")
    assert len(caught.value.problems) == 1
    with pytest.raises(UserError, match=r"launched from Python with a Task: resume it there, .*Where\(task=…\)\)$"):
        allowed_code(launched, Where(), "told")


def test_a_search_reports_to_the_storage_or_to_a_server_that_the_user_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from prune_search.ledger.tracking_uri import default_uri

    check_tracking(definition(tmp_path, tracking_uri=default_uri(tmp_path)), tmp_path, None, "told")
    foreign = definition(tmp_path / "other", tracking_uri="https://theirs:5000")
    with pytest.raises(UserError, match="--tracking-uri https://theirs:5000"):
        check_tracking(foreign, tmp_path, None, "told")
    check_tracking(foreign, tmp_path, "https://theirs:5000", "told")
    with pytest.raises(UserError, match="prune-search sync"):
        check_tracking(foreign, tmp_path, "https://mine:5000", "told")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://theirs:5000/")
    check_tracking(foreign, tmp_path, None, "told")


def test_all_that_a_definition_lacks_is_named_at_once(tmp_path: Path) -> None:
    mine = definition(tmp_path)
    assert checked(mine, "told") is mine
    broken = {**mine, "id": 7, "code": {"model": 3, "data": None}}
    del broken["source"]
    with pytest.raises(UserError) as refused:
        checked(broken, "told")
    assert {problem.path for problem in refused.value.problems} == {"id", "source", "code.model"}


def test_without_a_home_a_launch_goes_on_and_nothing_is_known_of_it_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def homeless() -> Path:
        raise UserError("set HOME or XDG_STATE_HOME to a folder")

    monkeypatch.setattr("prune_search.api.trust.state_home", homeless)
    told = definition(tmp_path)
    with caplog.at_level("WARNING", logger="prune_search"):
        remember(told)
    assert "set HOME or XDG_STATE_HOME" in caplog.text
    assert not launched_here(told)


def test_the_mlflow_of_a_storage_may_be_used_wherever_the_storage_is_and_however_the_environment_names_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = definition(tmp_path)
    for storage in (tmp_path / "first%2F", tmp_path / "second?"):
        check_tracking({**told, "tracking_uri": "sqlite:///mlflow.db"}, storage, None, "told")
    # A path that leads out of the storage is somebody else's database.
    outside = {**told, "tracking_uri": "sqlite:///../other/mlflow.db"}
    with pytest.raises(UserError, match="was not launched by you"):
        check_tracking(outside, tmp_path / "store", None, "told")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///runs.db")
    check_tracking({**told, "tracking_uri": f"sqlite:///{tmp_path}/runs.db"}, tmp_path / "store", None, "told")
