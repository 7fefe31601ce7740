"""Who trains which segment: the register of a cluster, and the leases beside the states."""

from __future__ import annotations

import os
import socket
import time
from dataclasses import replace
from pathlib import Path

from prune_search.search.ray.claims import Register, StorageClaims, is_free
from prune_search.storage.lease import Holder, started, this_place

STORAGE, ADDRESS = "/store", "ab" * 32


def holder(token: str) -> Holder:
    pid = os.getpid()
    return Holder(socket.gethostname(), pid, started(pid), token, time.time(), this_place())


def test_of_two_that_claim_a_segment_one_has_it_until_it_gives_it_back() -> None:
    register = Register()
    assert register.take(STORAGE, ADDRESS, holder("first"))
    assert not register.take(STORAGE, ADDRESS, holder("second"))
    # The one that has it may ask again; another storage or segment is another claim.
    assert register.take(STORAGE, ADDRESS, holder("first"))
    assert register.take("/other", ADDRESS, holder("second"))
    register.give(STORAGE, ADDRESS, "second")
    assert not register.take(STORAGE, ADDRESS, holder("second"))
    register.give(STORAGE, ADDRESS, "first")
    assert register.take(STORAGE, ADDRESS, holder("second"))


def test_the_claim_of_one_that_is_gone_is_taken_over() -> None:
    register = Register()
    gone = replace(holder("gone"), pid=2**22 + 1, started="1")
    assert register.take(STORAGE, ADDRESS, gone)
    assert register.take(STORAGE, ADDRESS, holder("next"))


def test_a_sign_of_life_keeps_every_claim_of_its_holder() -> None:
    register = Register()
    far = replace(holder("far"), host="another-machine", place="")
    assert register.take(STORAGE, ADDRESS, far)
    register._claims[STORAGE, ADDRESS] = replace(far, time=time.time() - 1e6)
    register.renew("far")
    assert time.time() - register._claims[STORAGE, ADDRESS].time < 60


def test_a_lease_beside_the_states_keeps_another_cluster_out(tmp_path: Path) -> None:
    ours, theirs = StorageClaims(tmp_path), StorageClaims(tmp_path)
    assert is_free(tmp_path, ADDRESS)
    assert ours.take(ADDRESS)
    assert not is_free(tmp_path, ADDRESS)
    assert not theirs.take(ADDRESS)
    ours.give(ADDRESS)
    ours.give(ADDRESS)
    assert is_free(tmp_path, ADDRESS)
    assert theirs.take(ADDRESS)
    theirs.give(ADDRESS)


def test_where_no_lease_can_be_stored_the_segment_is_trained_all_the_same(tmp_path: Path) -> None:
    (tmp_path / "vertices").write_text("in the way")
    assert StorageClaims(tmp_path).take(ADDRESS)
