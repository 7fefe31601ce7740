"""Data files: where they are looked for, and what is said of those that are missing or damaged."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from prune_search.recipe.problems import UserError
from prune_search.tasks.files import check_md5, find_files, read_checked


def test_the_folder_of_the_data_set_goes_before_the_root_and_all_files_lie_in_one(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    for name in ("a", "b"):
        (tmp_path / name).touch()
    assert find_files("mine", tmp_path, ["a", "b"], "mine") == [tmp_path / "a", tmp_path / "b"]
    (tmp_path / "mine" / "a").touch()
    assert find_files("mine", tmp_path, ["a"], "mine") == [tmp_path / "mine" / "a"]
    (tmp_path / "a").unlink()
    # One here and one there: both are asked for.
    with pytest.raises(UserError, match=r"task\.data: mine lacks a, b: put the official files into .*mine or "):
        find_files("mine", tmp_path, ["a", "b"], "mine")
    with pytest.raises(UserError, match=r"mine lacks c: "):
        find_files("mine", tmp_path, ["b", "c"], "mine")


def test_without_a_folder_it_is_said_how_one_is_named() -> None:
    with pytest.raises(UserError, match=r"mine needs a in <folder>/mine/, but no folder is given: set it with --data"):
        find_files("mine", None, ["a"], "mine")


def test_only_the_official_content_is_read(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"content")
    right = hashlib.md5(b"content", usedforsecurity=False).hexdigest()
    assert read_checked(tmp_path / "a", right) == b"content"
    with pytest.raises(UserError, match=f"a is not the official file .* md5 expected {'0' * 32}, got {right}"):
        read_checked(tmp_path / "a", "0" * 32)
    with pytest.raises(UserError, match="missing cannot be read: No such file or directory"):
        read_checked(tmp_path / "missing", right)
    check_md5("parts", [b"con", b"tent"], right)
