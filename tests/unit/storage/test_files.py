"""Folders that several writers want to put in the same place."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from prune_search.storage.files import StorageError, open_regular, put_folder


def is_good(folder: Path) -> bool:
    # Another writer can move the folder while it is looked at: like `read_state`, that is no valid folder.
    try:
        return (folder / "a").read_bytes().startswith(b"good")
    except OSError:
        return False


@pytest.mark.parametrize("before", ["free", "corrupt"])
def test_of_many_writers_one_is_first_and_stays(before: str, tmp_path: Path) -> None:
    folder = tmp_path / "state"
    if before == "corrupt":
        folder.mkdir()
        (folder / "a").write_bytes(b"bad")
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda n: put_folder(folder, {"a": b"good %d" % n}, is_good), range(16)))
    assert is_good(folder)
    assert os.listdir(tmp_path) == ["state"]


def test_a_valid_folder_that_was_taken_for_a_corrupt_one_is_put_back(tmp_path: Path) -> None:
    folder = tmp_path / "state"
    put_folder(folder, {"a": b"good 1"}, is_good)
    looks = iter([False])  # at the first look there was another, corrupt one
    put_folder(folder, {"a": b"good 2"}, lambda place: next(looks, is_good(place)))
    assert (folder / "a").read_bytes() == b"good 1"
    assert os.listdir(tmp_path) == ["state"]


def test_a_place_that_cannot_be_had_is_given_up(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"mine")
    with pytest.raises(StorageError, match=r"^state cannot be stored: "):
        put_folder(tmp_path / "file" / "state", {"a": b""}, is_good)
    assert (tmp_path / "file").read_bytes() == b"mine"


def test_only_a_regular_file_is_opened(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"text")
    (tmp_path / "link").symlink_to("file")
    os.mkfifo(tmp_path / "pipe")
    with open_regular(tmp_path / "file") as file:
        assert file.read() == b"text"
    for name in ("link", "pipe", "."):
        with pytest.raises(OSError, match=r"symbolic link|not a regular file"), open_regular(tmp_path / name):
            pass
