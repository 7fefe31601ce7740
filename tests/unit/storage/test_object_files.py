"""The files of a storage in an object store: which names they have there, and when a folder counts as there."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from object_store import ObjectStore

from prune_search.storage import object_files
from prune_search.storage.object_files import content_name, side_folder
from prune_search.storage.object_paths import ObjectPath
from prune_search.storage.places import place_of

MANIFEST, STATE = "manifest.json", "state.safetensors"


def place(text: str = "s3://studies/team/store") -> ObjectPath:
    found = place_of(text)
    assert isinstance(found, ObjectPath)
    return found


def test_a_file_is_named_by_its_content_so_that_no_writer_changes_anothers() -> None:
    assert content_name("state.safetensors", "ab") == "state.ab.safetensors"
    assert content_name("a.b.json", "ab") == "a.b.ab.json"
    assert content_name("state", "ab") == "state.ab"


def test_the_folder_on_this_machine_is_one_per_storage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    one, other = side_folder(place()), side_folder(place("s3://studies/team/other"))
    assert one != other
    assert one.is_relative_to(tmp_path)
    assert side_folder(place()) == one


def test_a_folder_is_there_once_its_manifest_is(object_store: ObjectStore) -> None:
    folder = place() / "vertices" / "one"
    sha256 = hashlib.sha256(b"tensors").hexdigest()
    object_files.put_folder(folder, {STATE: b"tensors", MANIFEST: b"{}"}, lambda folder: True)
    puts = [request.rpartition("/")[2] for request in object_store.requests if request.startswith("PUT")]
    assert puts.index(content_name(STATE, sha256)) < puts.index(MANIFEST)
    with object_files.open_folder(folder) as opened, opened.open(STATE, 100, sha256) as stream:
        assert stream.read() == b"tensors"
    # A valid one is left alone, and an invalid one replaced.
    object_files.put_folder(folder, {STATE: b"others", MANIFEST: b"[]"}, lambda folder: True)
    assert (folder / MANIFEST).read_bytes() == b"{}"
    object_files.put_folder(folder, {STATE: b"others", MANIFEST: b"[]"}, lambda folder: False)
    assert (folder / MANIFEST).read_bytes() == b"[]"
    sizes = {name: size for name, size, _ in object_files.walk_files(place() / "vertices")}
    assert sizes[f"one/{MANIFEST}"] == 2
    assert len(sizes) == 3


def test_a_storage_that_was_copied_from_a_disk_is_read_by_its_plain_names(object_store: ObjectStore) -> None:
    folder = place() / "vertices" / "one"
    (folder / STATE).write_bytes(b"tensors")
    with object_files.open_folder(folder) as opened, opened.open(STATE, 100, "ab" * 32) as stream:
        assert stream.read() == b"tensors"
    with object_files.open_folder(folder) as opened, pytest.raises(FileNotFoundError), opened.open(MANIFEST, 100):
        pass
