"""What lies in a storage is found whatever it lies on (what it costs to rebuild: see `test_budget`)."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
import torch

from prune_search.storage.files import put_file
from prune_search.storage.inventory import take_inventory
from prune_search.storage.manifests import state_folder
from prune_search.storage.names import vertex_folder
from prune_search.storage.places import StoragePath, place_of
from prune_search.storage.states import write_state

ONE, OTHER = "1" * 64, "2" * 64


@pytest.fixture(params=["folder", "s3"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> StoragePath:
    if request.param == "folder":
        return tmp_path
    request.getfixturevalue("object_store")
    return place_of("s3://studies/store")


def test_every_state_is_found_with_its_bytes_and_who_is_at_it(storage: StoragePath) -> None:
    meta = {"seconds_per_step": 0.5, "stretch": "train", "rests_on": [[OTHER, 5]]}
    write_state(state_folder(vertex_folder(storage, ONE), 7), {"weight": torch.zeros(100)}, meta)
    write_state(state_folder(vertex_folder(storage, OTHER), 5), {}, {})
    put_file(state_folder(vertex_folder(storage, OTHER), 5) / "manifest.json", b"{}")
    put_file(vertex_folder(storage, OTHER) / "lease.json", json.dumps({"time": time.time()}).encode())
    for name in ("stray", "vertices/stray", f"vertices/11/{ONE}/stray"):
        put_file(storage / name, b"what is no state counts for nothing")
    found = take_inventory(storage)
    assert sorted(found.states) == [(ONE, 7), (OTHER, 5)]
    whole, broken = found.states[ONE, 7], found.states[OTHER, 5]
    assert whole.folder == state_folder(vertex_folder(storage, ONE), 7)
    assert (whole.valid, whole.name, whole.seconds_per_step) == (True, "train", 0.5)
    assert whole.rests_on == {(OTHER, 5)}
    assert 400 < whole.size < 2000
    assert abs(whole.changed - time.time()) < 60
    assert not broken.valid
    assert found.leased == {OTHER}
    assert found.size == whole.size + broken.size


def test_an_empty_storage_has_no_states(storage: StoragePath) -> None:
    assert take_inventory(storage / "absent").states == {}
