"""Files below the folder of --data-root, and their digest."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from prune_search.recipe.problems import UserError
from prune_search.tasks.kinds.paths import BLOCK, BLOCKS, below_root, few, files_digest, local


def test_a_path_is_relative_to_the_root_or_absolute(tmp_path: Path) -> None:
    (tmp_path / "words.txt").write_text("x")
    assert below_root(tmp_path, "words.txt", "k") == tmp_path / "words.txt"
    assert below_root(None, str(tmp_path / "words.txt"), "k") == tmp_path / "words.txt"
    with pytest.raises(UserError, match=r"k: there is no .*wrods.txt .did you mean 'words.txt'"):
        below_root(tmp_path, "wrods.txt", "k")
    with pytest.raises(UserError, match=r"k: 'words.txt' is relative to a folder that is not given: set it with"):
        below_root(None, "words.txt", "k")


def test_what_may_be_a_name_of_a_library_is_no_missing_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "net").mkdir()
    monkeypatch.chdir(tmp_path)
    assert local("net", None, "k") == local("net", tmp_path, "k") == local(str(tmp_path / "net"), None, "k")
    assert [local(name, tmp_path, "k") for name in ("gpt2", "user/net-1.0")] == [None, None]
    for name in ("./nett", "a/b/c", str(tmp_path / "nett"), "my net"):
        with pytest.raises(UserError, match=r"k: there is no "):
            local(name, tmp_path, "k")


def digest(folder: Path, settings: object = "") -> str:
    return files_digest([(path.name, path) for path in sorted(folder.iterdir())], settings)


def test_names_sizes_bytes_and_settings_count_and_where_the_folder_lies_does_not(tmp_path: Path) -> None:
    seen = set()
    for place, (name, text) in enumerate((("a", b"xyz"), ("a", b"xyy"), ("b", b"xyz"), ("a", b"xyz "), ("a", b""))):
        folder = tmp_path / str(place)
        folder.mkdir()
        (folder / name).write_bytes(text)
        (folder / "c").write_bytes(b"more")
        seen.add(digest(folder))
    assert len(seen) == 5
    again = tmp_path / "elsewhere"
    (tmp_path / "0").rename(again)
    assert digest(again) in seen
    assert digest(again, "grey") not in seen


def test_of_large_files_a_sample_is_read_from_the_first_byte_to_the_last(tmp_path: Path) -> None:
    size = 3 * BLOCKS * BLOCK
    large = tmp_path / "large"
    with large.open("wb") as file:
        file.truncate(size)
    (tmp_path / "small").write_bytes(b"end")
    whole = digest(tmp_path)
    for place in (0, size - 1):
        with large.open("r+b") as file:
            file.seek(place)
            file.write(b"1")
        assert digest(tmp_path) != whole
        with large.open("r+b") as file:
            file.seek(place)
            file.write(b"\0")
    assert digest(tmp_path) == whole
    (tmp_path / "small").write_bytes(b"eno")
    assert digest(tmp_path) != whole
    os.remove(large)
    with pytest.raises(UserError, match=r"large cannot be read"):
        files_digest([("large", large)])


def test_of_many_names_the_first_are_shown() -> None:
    assert few("abc") == "a, b, c"
    assert few(range(7)) == "0, 1, 2, 3, 4 and 2 more"
