"""What is done with files means the same in a folder and in an object store."""

from __future__ import annotations

import hashlib
import threading
from pathlib import Path

import pytest

from prune_search.recipe.problems import UserError
from prune_search.storage import files
from prune_search.storage.files import (
    create_if_absent,
    creates_exclusively,
    open_folder,
    open_regular,
    prepare_storage,
    put_file,
    put_folder,
    remove_tree,
    side_folder,
    walk_files,
)
from prune_search.storage.places import StoragePath, names_in, place_of

ROOT = "s3://studies/team/store"


@pytest.fixture(params=["folder", "s3"])
def root(request: pytest.FixtureRequest, tmp_path: Path) -> StoragePath:
    """A place of either kind."""
    if request.param == "folder":
        return tmp_path
    request.getfixturevalue("object_store")
    return place_of(ROOT)


def test_a_place_behaves_like_a_path(root: StoragePath) -> None:
    (root / "a").mkdir(parents=True, exist_ok=True)
    put_file(root / "a" / "one.json", b"1")
    put_file(root / "a" / "two.json", b"2")
    put_file(root / "a" / "one.json", b"11")
    assert sorted(names_in(root / "a")) == ["one.json", "two.json"]
    assert [path.name for path in root.iterdir() if path.is_dir()] == ["a"]
    assert (root / "a").exists()
    assert not (root / "a").is_file()
    assert (root / "a" / "one.json").is_file()
    assert not (root / "b").exists()
    assert (root / "a" / "one.json").parent == root / "a"
    with open_regular(root / "a" / "one.json") as file:
        assert file.read() == b"11"
    (root / "a" / "two.json").unlink()
    (root / "a" / "two.json").unlink(missing_ok=True)
    with pytest.raises(FileNotFoundError):
        (root / "a" / "two.json").unlink()
    with pytest.raises(FileNotFoundError), open_regular(root / "a" / "two.json"):
        pass
    remove_tree(root / "a", "one.json")
    remove_tree(root / "a")
    assert not (root / "a").exists()


def test_of_eight_that_create_at_once_exactly_one_wins(root: StoragePath) -> None:
    for turn in range(5):
        start = threading.Barrier(8)
        won: list[int] = []

        def create(number: int, turn: int = turn, start: threading.Barrier = start, won: list[int] = won) -> None:
            start.wait()
            if create_if_absent(root / f"lease-{turn}.json", f"holder {number}".encode()):
                won.append(number)

        threads = [threading.Thread(target=create, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        with open_regular(root / f"lease-{turn}.json") as file:
            assert file.read() == f"holder {won[0]}".encode()
        assert len(won) == 1
    assert all(not name.startswith(".tmp-") for name in names_in(root))


def test_the_first_valid_folder_stays_and_a_corrupt_one_is_replaced(root: StoragePath) -> None:
    folder, manifest = root / "states" / "one", "manifest.json"

    def is_valid(found: StoragePath) -> bool:
        with open_folder(found) as opened, opened.open(manifest, 100) as file:
            return file.read().startswith(b"good")

    (root / "states").mkdir()
    put_folder(folder, {"data": b"1", manifest: b"corrupt"}, is_valid)
    put_folder(folder, {"data": b"2", manifest: b"good 2"}, is_valid)
    put_folder(folder, {"data": b"3", manifest: b"good 3"}, is_valid)
    with open_folder(folder) as opened:
        with opened.open(manifest, 100) as file:
            assert file.read() == b"good 2"
        with opened.open("data", 100, hashlib.sha256(b"2").hexdigest()) as file:
            assert file.read() == b"2"
        with pytest.raises(FileNotFoundError), opened.open("other", 100):
            pass


def test_every_file_below_a_folder_is_found_with_its_size(root: StoragePath) -> None:
    for name in ("a", "b/c", "b/d/e"):
        path = root / "walked" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        put_file(path, name.encode())
    found = {file.name: file.size for file in walk_files(root / "walked")}
    assert found == {"a": 1, "b/c": 3, "b/d/e": 5}
    assert list(walk_files(root / "absent")) == []


def test_a_second_creation_is_refused(root: StoragePath) -> None:
    assert creates_exclusively(root)


def test_a_storage_can_be_used_once_it_is_prepared(root: StoragePath) -> None:
    storage = prepare_storage(root / "new" / "storage")
    put_file(storage / "one", b"1")
    assert (storage / "one").read_bytes() == b"1"
    (side_folder(storage) / "local").touch()
    assert [path.name for path in side_folder(storage).iterdir() if path.name == "local"] == ["local"]


def test_a_file_is_no_storage(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"--storage: .* cannot be a folder: "):
        prepare_storage(tmp_path / "file" / "storage")


def test_a_service_is_given_more_time(tmp_path: Path) -> None:
    assert not files.is_service(tmp_path)
    assert files.is_service(place_of(ROOT))
    assert files.settle_s(tmp_path) < files.settle_s(place_of(ROOT))
