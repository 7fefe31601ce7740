"""A manifest in which a byte was altered is refused, and so is one that names what it must not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from prune_search.storage.manifests import (
    EARLY_END,
    digest_of,
    note_early_end,
    read_early_end,
    read_manifest,
    remove_state,
    rendered,
    rests_on,
    step_of,
)

ENTRY = {"sha256": "0" * 64, "bytes": 3}


def manifest(**changed: Any) -> bytes:
    content = {"format": 1, "files": {"state.safetensors": ENTRY}, "meta": {"step": 5}, **changed}
    return rendered({**content, "sha256": digest_of(content)})


def test_a_manifest_is_read_back() -> None:
    content = read_manifest(manifest())
    assert content["files"]["state.safetensors"] == ENTRY
    assert content["meta"] == {"step": 5}


def test_every_altered_byte_is_found() -> None:
    data = manifest()
    for place in range(len(data)):
        altered = data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]
        with pytest.raises(ValueError, match=r"manifest\.json|format"):
            read_manifest(altered)


@pytest.mark.parametrize(
    "changed",
    [{"files": {"../secret": ENTRY}}, {"files": {}}, {"files": {"state.safetensors": {}}}, {"meta": []}, {"format": 3}],
)
def test_a_manifest_of_something_else_is_refused(changed: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"names other files|format"):
        read_manifest(manifest(**changed))


def test_a_key_that_stands_twice_is_refused() -> None:
    with pytest.raises(ValueError, match="duplicate key"):
        read_manifest(manifest().replace(b'{"step"', b'{"step": 4, "step"'))


@pytest.mark.parametrize(
    ("name", "step"),
    [
        ("step-000000005", 5),
        ("step-1000000000", 1_000_000_000),
        ("step-5", None),
        ("step-0000000012", None),
        ("x", None),
    ],
)
def test_a_folder_has_a_step_by_its_name(name: str, step: int | None) -> None:
    assert step_of(name) == step


def test_an_early_end_is_known_once_it_was_noted(tmp_path: Path) -> None:
    assert read_early_end(tmp_path, 100) is None
    note_early_end(tmp_path, 30)
    assert read_early_end(tmp_path, 100) == 30
    assert read_early_end(tmp_path, 30) is None
    (tmp_path / EARLY_END).write_text('{"step": "30"}')
    assert read_early_end(tmp_path, 100) is None
    note_early_end(tmp_path / "absent", 30)  # where it cannot be noted, the training goes on


def test_a_removed_state_leaves_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "step-000000005"
    folder.mkdir()
    (folder / "manifest.json").write_bytes(manifest())
    remove_state(folder)
    remove_state(folder)
    assert list(tmp_path.iterdir()) == []


def test_what_a_segment_rests_on_is_read_from_its_manifest() -> None:
    assert rests_on({"rests_on": [["a" * 64, 3], ["b" * 64, 0]]}) == {("a" * 64, 3), ("b" * 64, 0)}
