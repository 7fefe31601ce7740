"""Small JSON files are read where they are that, and nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest

from prune_search.recipe.problems import UserError
from prune_search.storage import json_files
from prune_search.storage.json_files import read_json


def test_an_object_is_read(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('{"a": [1, null]}')
    assert read_json(tmp_path / "a.json") == {"a": [1, None]}


@pytest.mark.parametrize("content", [b"", b"[]", b"1", b"{", b"\xff", b"[" * 100_000, None])
def test_anything_else_is_said_with_its_name(content: bytes | None, tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError, match=r"a\.json: is missing or does not contain a JSON object"):
        read_json(path)


def test_neither_a_link_nor_a_large_file_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.json").write_text('{"a": 1}')
    (tmp_path / "link.json").symlink_to("a.json")
    with pytest.raises(UserError, match="does not contain a JSON object"):
        read_json(tmp_path / "link.json")
    monkeypatch.setattr(json_files, "MAX_BYTES", 5)
    with pytest.raises(UserError, match="does not contain a JSON object"):
        read_json(tmp_path / "a.json")
