"""Files on a disk: folders that several writers want to put in the same place, links, and what dead writers left."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from prune_search.storage import local_files
from prune_search.storage.files import (
    StorageError,
    check_writable,
    create_if_absent,
    make_folder,
    open_regular,
    put_folder,
    remove_stale,
    remove_tree,
)
from prune_search.storage.places import names_in


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


def test_a_local_file_is_created_once_where_there_are_no_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_link(*names: object, **options: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr("os.link", no_link)
    assert [create_if_absent(tmp_path / "lease", b"mine"), create_if_absent(tmp_path / "lease", b"other")] == [1, 0]
    assert (tmp_path / "lease").read_bytes() == b"mine"
    assert names_in(tmp_path) == ["lease"]


def test_what_dead_processes_left_is_removed(tmp_path: Path) -> None:
    gone = subprocess.Popen([sys.executable, "-S", "-c", ""])
    gone.wait()
    names = {
        "abandoned": f".tmp-{gone.pid}-0123456789abcdef",
        "young": f".tmp-{gone.pid}-0123456789abcde0",
        "alive": f".tmp-{os.getpid()}-0123456789abcdef",
        "other": f".tmp-{gone.pid}-mine",
        "state": "step-000000001",
    }
    for name in names.values():
        (tmp_path / name).mkdir()
        (tmp_path / name / "state.safetensors").touch()
        os.utime(tmp_path / name / "state.safetensors", (1000, 1000))
        os.utime(tmp_path / name, (1000, 1000))
    os.utime(tmp_path / names["young"] / "state.safetensors")
    link = tmp_path / f".tmp-{gone.pid}-1123456789abcdef"
    link.symlink_to(tmp_path / names["state"])
    os.utime(link, (1000, 1000), follow_symlinks=False)
    assert remove_stale(tmp_path.parent, [tmp_path.name], older_than_s=3600) == 2
    assert sorted(os.listdir(tmp_path)) == sorted(names[kept] for kept in ("young", "alive", "other", "state"))
    assert os.listdir(tmp_path / names["state"]) == ["state.safetensors"]
    assert remove_stale(tmp_path, ["absent", "absent/*"], 0) == 0


def test_what_a_folder_needs_to_count_goes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put_folder(tmp_path / "search", {"a": b"1", "search.json": b"2"}, is_good)
    gone: list[str] = []
    monkeypatch.setattr(local_files, "_remove", lambda path: gone.append(path.name))
    remove_tree(tmp_path / "search", "search.json")
    assert gone[0] == "search.json"
    assert not (tmp_path / "search").exists()


def test_a_link_is_removed_and_what_it_points_to_stays(tmp_path: Path) -> None:
    put_folder(tmp_path / "other", {"search.json": b"2"}, is_good)
    (tmp_path / "search").symlink_to("other")
    remove_tree(tmp_path / "search", "search.json")
    assert names_in(tmp_path) == ["other"]
    assert names_in(tmp_path / "other") == ["search.json"]


def as_nobody(call: Callable[[], object]) -> str:
    """What a call raises as a user who owns nothing here, in a process of its own."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            if os.getuid() == 0:
                os.setgroups([])
                os.setgid(65534)
                os.setuid(65534)
            call()
            os.write(writer, b"nothing")
        except BaseException as error:
            os.write(writer, f"{type(error).__name__}: {error}".encode())
        finally:
            os._exit(0)
    os.close(writer)
    os.waitpid(child, 0)
    with os.fdopen(reader) as said:
        return said.read()


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_who_may_only_read_is_told_before_anything_is_made() -> None:
    with tempfile.TemporaryDirectory() as parent:
        os.chmod(parent, 0o755)
        storage = Path(parent) / "store"
        for folder in (storage, storage / "searches", storage / "vertices"):
            folder.mkdir()
        modes = {"": 0o777, "searches": 0o777, "vertices": 0o777}
        for name, mode in modes.items():
            os.chmod(storage / name, mode)
        assert as_nobody(lambda: check_writable(storage)) == "nothing"
        assert as_nobody(lambda: make_folder(storage / "searches" / "mine")) == "nothing"
        # The storage itself; a folder that another user has made in it; one that may not even be read.
        for name, mode, said in (
            ("", 0o555, f"you may not write to '{storage}'"),
            ("searches", 0o755, f"you may not write to '{storage / 'searches'}'"),
            ("", 0o700, "cannot be read: Permission denied"),
        ):
            os.chmod(storage / name, mode)
            told = as_nobody(lambda: check_writable(storage))
            assert told.startswith("UserError: --storage: ")
            assert said in told
            assert "\n" not in told
            os.chmod(storage / name, modes[name])
        os.chmod(storage, 0o555)
        told = as_nobody(lambda: make_folder(storage / "new"))
        assert told == f"StorageError: the folder {storage / 'new'} cannot be created: Permission denied"
