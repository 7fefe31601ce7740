"""Of a search there is one holder at a time, on a disk and in an object store."""

from __future__ import annotations

import json
import os
import socket
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

from prune_search.recipe.problems import UserError
from prune_search.storage import lease as lease_module
from prune_search.storage import local_files, object_files
from prune_search.storage.files import put_file
from prune_search.storage.lease import Holder, Lease, LeaseHeldError, read_holder, started
from prune_search.storage.places import StoragePath, place_of


@pytest.fixture(params=["folder", "s3"])
def search(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> StoragePath:
    """The folder of a search, on storages that settle soon."""
    monkeypatch.setattr(local_files, "SETTLE_S", 0.01)
    monkeypatch.setattr(object_files, "SETTLE_S", 0.01)
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


def test_a_holder_elsewhere_is_believed_for_a_minute(search: StoragePath) -> None:
    write(search, elsewhere(age=lease_module.STALE_AFTER_S - 10))
    with pytest.raises(LeaseHeldError, match="process 7 on another-host"):
        Lease(search, lost=lambda: None).__enter__()
    write(search, elsewhere(age=lease_module.STALE_AFTER_S + 10))
    with Lease(search, lost=lambda: None) as lease:
        holder = read_holder(search)
        assert holder is not None
        assert holder.token == lease.token


def test_a_pid_that_was_used_again_holds_nothing(search: StoragePath) -> None:
    mine = Holder(socket.gethostname(), os.getpid(), started(os.getpid()), "token", time.time())
    assert mine.alive()
    assert not replace(mine, started="1").alive()
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
