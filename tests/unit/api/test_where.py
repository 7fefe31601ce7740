"""Which of an option, the environment and the default wins, and whose code is the user's own."""

from __future__ import annotations

from pathlib import Path

import pytest

from prune_search.api.where import Where, named_storage, storage_option
from prune_search.recipe.problems import UserError


def test_an_option_wins_over_the_environment_and_that_over_the_default(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PRUNE_SEARCH_STORAGE", raising=False)
    assert named_storage(None) == tmp_path / "prune-search-store"
    monkeypatch.setenv("PRUNE_SEARCH_STORAGE", str(tmp_path / "around"))
    assert named_storage(None) == tmp_path / "around"
    assert named_storage("typed") == tmp_path / "typed"
    assert not list(tmp_path.iterdir()), "looking at a storage made it"


def test_a_suggested_command_names_the_storage_only_where_it_would_look_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PRUNE_SEARCH_STORAGE", str(tmp_path))
    assert storage_option(None) == ""
    assert storage_option(str(tmp_path)) == ""
    assert storage_option("/elsewhere/my store") == " --storage '/elsewhere/my store'"


def test_only_a_factory_is_the_users_code_and_a_registered_name_is_not() -> None:
    assert Where(model="mlp", data="digits").code().named() == {}
    assert Where(model="mine:net", data="digits").code().named() == {"model": "mine:net"}
    assert Where(model="mlp", data="mine:data").assignments() == [("task.model", "mlp"), ("task.data", "mine:data")]
    assert Where().assignments() == []


def test_options_of_a_named_model_are_set_after_it() -> None:
    given = {"task.model.width": 8, "task.model": "lenet-5", "rounds": 2}
    assert list(Where(model="resnet-20").values(given).items()) == [
        ("task.model", "resnet-20"),
        ("task.model.width", 8),
        ("rounds", 2),
    ]
    assert Where().values(given) == given
    assert Where().values(None) == {}


def test_the_budget_is_read_from_the_option_else_from_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PRUNE_SEARCH_STORAGE_BUDGET", "plenty")
    with pytest.raises(UserError, match=r"--storage-budget.*plenty"):
        Where(storage=str(tmp_path)).cleaner()
    Where(storage=str(tmp_path), storage_budget="2GB").cleaner()
    Where(storage=str(tmp_path), storage_budget=7).cleaner()


def test_the_data_folder_is_the_option_or_that_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PRUNE_SEARCH_DATA", "/data/all")
    assert Where().data_folder() == Path("/data/all")
    assert Where(data_root="mine").data_folder() == Path("mine")
    monkeypatch.delenv("PRUNE_SEARCH_DATA")
    assert Where().data_folder() is None


def test_a_storage_is_one_place_however_it_is_typed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "a" / "b")
    monkeypatch.setenv("PRUNE_SEARCH_STORAGE", str(tmp_path / "store"))
    for typed in ("../../store", "../b/../../store", str(tmp_path / "a" / ".." / "store"), "./../../store/"):
        assert named_storage(typed) == tmp_path / "store"
        assert storage_option(typed) == ""


def test_a_task_is_a_function_of_a_module() -> None:
    with pytest.raises(UserError, match=r"--task: must be MODULE:FUNCTION, .*got 'houses'"):
        Where(task="houses").code()
