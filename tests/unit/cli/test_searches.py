"""How the commands find a search by its name, and what they say of damaged records."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from told_search import Told

from prune_search.cli.searches import damaged, find_search, holder, is_running, read, storage_folder
from prune_search.recipe.problems import UserError
from prune_search.storage.lease import Lease


def test_a_search_is_found_by_its_name_and_a_misspelt_one_is_suggested(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="this storage has no searches yet"):
        find_search(str(tmp_path), "monday")
    told = Told.begin(tmp_path, "monday")
    assert find_search(str(tmp_path), "monday") == told.folder
    assert read(told.folder).name == "monday"
    with pytest.raises(UserError, match=r"(?s)munday.*did you mean 'monday'\?"):
        find_search(str(tmp_path), "munday")


def test_looking_at_a_storage_does_not_make_it(tmp_path: Path) -> None:
    assert not storage_folder(str(tmp_path / "store")).exists()
    assert list(tmp_path.iterdir()) == []


def test_who_runs_a_search_is_known_while_it_runs(tmp_path: Path) -> None:
    folder = Told.begin(tmp_path).folder
    assert holder(folder) is None
    assert not is_running(folder)
    with Lease(folder, lost=lambda: None):
        found = holder(folder)
        assert found is not None
        assert found.pid == os.getpid()
        assert is_running(folder)
    assert not is_running(folder)


def test_damaged_records_are_one_line_with_their_folder(tmp_path: Path) -> None:
    for error in (KeyError("space"), TypeError("not\na mapping"), ValueError("x"), AttributeError("y")):
        with pytest.raises(UserError) as told, damaged(tmp_path):
            raise error
        said = str(told.value.problems[0])
        assert said.startswith(f"{tmp_path}: its records are damaged: {type(error).__name__}")
        assert "\n" not in said
    with pytest.raises(OSError, match="disk"), damaged(tmp_path):
        raise OSError("disk")
