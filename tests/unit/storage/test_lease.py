"""Of a search there is one holder at a time, on a disk and in an object store."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from prune_search.recipe.problems import UserError
from prune_search.storage import lease as lease_module
from prune_search.storage import local_files, object_files
from prune_search.storage.files import put_file
from prune_search.storage.lease import Holder, Lease, LeaseHeldError, read_holder, started, this_place
from prune_search.storage.places import StoragePath, place_of


@pytest.fixture(params=["folder", "s3"])
def search(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> StoragePath:
    """The folder of a search, on storages that settle soon."""
    monkeypatch.setattr(local_files, "SETTLE_S", 0.01)
    monkeypatch.setattr(object_files, "SETTLE_S", 0.01)
    monkeypatch.setattr(lease_module, "WATCH_S", 0.5)
    monkeypatch.setattr(lease_module, "LOOK_EVERY_S", 0.02)
    if request.param == "folder":
        return tmp_path
    request.getfixturevalue("object_store")
    return place_of("s3://studies/store/searches/one")


def write(search: StoragePath, holder: Holder) -> None:
    put_file(search / "lease.json", json.dumps(vars(holder)).encode())


def elsewhere(age: float) -> Holder:
    return Holder("another-host", 7, "", "token", time.time() - age)


def test_a_second_one_is_told_who_holds_it(search: StoragePath) -> None:
    with Lease(search, lost=lambda: None):
        with pytest.raises(
            UserError, match=f"is held by process {os.getpid()} on {socket.gethostname()}; it is running"
        ):
            Lease(search, lost=lambda: None).__enter__()
        holder = read_holder(search)
        assert holder is not None
        assert holder.alive()
    assert read_holder(search) is None


@contextlib.contextmanager
def renewing(search: StoragePath, holder: Holder) -> Iterator[None]:
    """Another process, somewhere, that holds the search and renews its lease by its own clock."""
    over = threading.Event()

    def renew() -> None:
        beat = 0
        while not over.wait(0.05):
            beat += 1
            write(search, replace(holder, time=holder.time + beat))

    write(search, holder)
    thread = threading.Thread(target=renew)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


@pytest.mark.parametrize("ahead", [-90.0, 0.0, 90.0, 3600.0])
def test_a_holder_elsewhere_is_known_by_its_renewals_whatever_its_clock_says(search: StoragePath, ahead: float) -> None:
    with renewing(search, elsewhere(age=-ahead)), pytest.raises(LeaseHeldError, match="process 7 on another-host"):
        Lease(search, lost=lambda: None).__enter__()
    # What renews no more is dead, however fresh its time looks.
    with Lease(search, lost=lambda: None) as lease:
        holder = read_holder(search)
        assert holder is not None
        assert holder.token == lease.token


@pytest.mark.parametrize("place", ["", "another boot pid:[4026531836]", "this boot pid:[1]"])
def test_a_container_with_the_name_of_this_host_is_not_taken_for_dead(search: StoragePath, place: str) -> None:
    # Its pid counts in another namespace: here it is nobody's.
    inside = Holder(socket.gethostname(), 2**22 + 1, "1", "token", time.time(), place)
    assert started(inside.pid) == ""
    with renewing(search, inside), pytest.raises(LeaseHeldError, match=f"process {inside.pid}"):
        Lease(search, lost=lambda: None).__enter__()


def test_a_pid_that_was_used_again_holds_nothing(search: StoragePath, monkeypatch: pytest.MonkeyPatch) -> None:
    mine = Holder(socket.gethostname(), os.getpid(), started(os.getpid()), "token", time.time(), this_place())
    assert mine.alive()
    assert not replace(mine, started="1").alive()
    # Nobody has to be watched where the process can be asked for.
    monkeypatch.setattr(lease_module, "WATCH_S", 3600.0)
    write(search, replace(mine, started="1"))
    with Lease(search, lost=lambda: None):
        pass


def test_whoever_lost_it_is_told_and_leaves_the_others_alone(
    search: StoragePath, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease_module, "RENEW_EVERY_S", 0.05)
    lost = threading.Event()
    with Lease(search, lost=lost.set):
        # A write of this one that was under way can replace the other's once.
        for _ in range(100):
            write(search, elsewhere(age=0))
            if lost.wait(0.1):
                break
    assert lost.is_set()
    holder = read_holder(search)
    assert holder is not None
    assert holder.token == "token"


@pytest.mark.parametrize("content", [b"", b"[]", b'{"host": "a"}', b'{"host": 1, "pid": "x"}'])
def test_a_broken_lease_holds_nothing(content: bytes, search: StoragePath) -> None:
    put_file(search / "lease.json", content)
    assert read_holder(search) is None
    with Lease(search, lost=lambda: None):
        pass
