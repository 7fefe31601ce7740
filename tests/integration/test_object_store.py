"""Trials and searches whose storage is an S3 service over HTTP."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from object_store import BUCKET, ObjectStore
from small_trials import SetupOf, blocks, greg, hashes

from prune_search.storage import object_client
from prune_search.storage.object_paths import ObjectPath
from prune_search.storage.places import names_in, place_of
from prune_search.storage.states import list_states, newest_state, read_state, write_state
from prune_search.trial.run import run_trial

STORAGE = f"s3://{BUCKET}/store"


def states(storage: str = STORAGE) -> list[ObjectPath]:
    """The folders of all stored states."""
    place = place_of(storage)
    assert isinstance(place, ObjectPath)
    return sorted({path.parent for path in place.walk() if path.name == "manifest.json"})


def alter(path: ObjectPath, at: int = -1) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(bytes(data))


def test_a_state_round_trip_and_every_damage_is_found(object_store: ObjectStore) -> None:
    home = place_of(STORAGE) / "vertices"
    assert isinstance(home, ObjectPath)
    tensors = {"weight": torch.linspace(-1, 1, 100), "mask": torch.tensor([True, False])}
    for step in (5, 9):
        write_state(home / f"step-{step:09d}", tensors, {"step": step})
    found = newest_state(home, 100)
    assert found is not None
    assert found[0] == 9
    assert all(torch.equal(found[1].tensors[name], tensor) for name, tensor in tensors.items())
    newest = home / "step-000000009"
    parts = {path.name: path.read_bytes() for path in newest.iterdir()}
    assert len(parts) == 2
    for name, data in parts.items():
        for damaged in (b"", data[: len(data) // 2], data[:-2] + bytes([data[-2] ^ 1]) + data[-1:], None):
            if damaged is None:
                (newest / name).unlink()
            else:
                (newest / name).write_bytes(damaged)
            assert read_state(newest) is None
            after = newest_state(home, 100)
            assert after is not None
            assert after[0] == 5
            write_state(newest, tensors, {"step": 9})
            assert read_state(newest) is not None
    assert [step for step, _ in list_states(home)] == [5, 9]


def test_a_manifest_that_names_another_place_is_refused(object_store: ObjectStore) -> None:
    from prune_search.storage.manifests import digest_of, rendered

    home = place_of(STORAGE) / "step-000000001"
    for sha256, size in (("../../secret", 3), ("a" * 63, 3), ("0" * 64, "3"), (7, 3), ("0" * 64, 10**15)):
        content = {
            "format": 1,
            "files": {"state.safetensors": {"sha256": sha256, "bytes": size}},
            "meta": {},
        }
        manifest = home / "manifest.json"
        assert isinstance(manifest, ObjectPath)
        manifest.write_bytes(rendered({**content, "sha256": digest_of(content)}))
        assert read_state(home) is None


class Dying:
    """A client whose process dies at a put, after so many."""

    def __init__(self, client: Any, left: int) -> None:
        self.client = client
        self.left = left

    def __getattr__(self, name: str) -> Any:
        if name == "put_object":
            self.left -= 1
            if self.left < 0:
                raise KeyboardInterrupt
        return getattr(self.client, name)


def test_nothing_counts_before_the_manifest_is_there(
    object_store: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A writer that dies at any of its requests leaves no state, and no harm to one that stands there."""
    home = place_of(STORAGE) / "step-000000001"
    one, other = {"weight": torch.zeros(3)}, {"weight": torch.ones(3)}
    client = object_client.client()
    assert object_client.conditions_hold(BUCKET, "store")
    for left in (0, 1):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(object_client._Clients, "client", Dying(client, left))
            with pytest.raises(KeyboardInterrupt):
                write_state(home, one, {})
        assert read_state(home) is None
        assert len(names_in(home)) == left
    write_state(home, one, {})
    assert read_state(home) is not None
    # Another writer that had begun before: what is there stays.
    from prune_search.storage import states

    looks, is_valid = iter([False]), states.is_valid
    monkeypatch.setattr(states, "is_valid", lambda folder: next(looks, None) is not False and is_valid(folder))
    write_state(home, other, {})
    state = read_state(home)
    assert state is not None
    assert torch.equal(state.tensors["weight"], one["weight"])


@pytest.mark.parametrize("trial", [blocks("late-rewinding", rounds=2, weights={"at": "5it"}), greg("greg-1")])
def test_a_trial_is_the_same_as_without_and_is_reused(
    setup_of: SetupOf, object_store: ObjectStore, trial: dict[str, object]
) -> None:
    nowhere = run_trial(setup_of(trial), None)
    first = run_trial(setup_of(trial), place_of(STORAGE))
    second = run_trial(setup_of(trial), place_of(STORAGE))
    assert hashes(nowhere) == hashes(first) == hashes(second)
    assert second.steps == (0, first.steps[0], 0)
    # Damaged, every one: nothing of it is loaded.
    for home in states():
        alter(next(path for path in home.iterdir() if path.name != "manifest.json"))
    third = run_trial(setup_of(trial), place_of(STORAGE))
    assert hashes(third) == hashes(nowhere)
    assert third.steps[0] == first.steps[0]


def test_a_storage_that_was_copied_from_a_disk_is_taken_up(
    setup_of: SetupOf, object_store: ObjectStore, tmp_path: Path
) -> None:
    trial = blocks("lottery-ticket", rounds=2)
    first = run_trial(setup_of(trial), tmp_path)
    for path in tmp_path.glob("vertices/**/*"):
        if path.is_file():
            target = place_of(STORAGE) / str(path.relative_to(tmp_path))
            assert isinstance(target, ObjectPath)
            target.write_bytes(path.read_bytes())
    again = run_trial(setup_of(trial), place_of(STORAGE))
    assert hashes(again) == hashes(first)
    assert again.steps[0] == 0


def test_a_trial_goes_on_in_memory_where_the_service_goes_away(
    setup_of: SetupOf, object_store: ObjectStore, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    trial = blocks("lottery-ticket", rounds=2)
    nowhere = run_trial(setup_of(trial), None)
    with pytest.MonkeyPatch.context() as patch, caplog.at_level(logging.WARNING), object_store.away():
        patch.setattr(object_client, "ATTEMPTS", 1)
        patch.setattr(object_client._Clients, "pid", 0)
        patch.setattr(object_client._Clients, "client", None)
        result = run_trial(setup_of(trial), place_of(STORAGE))
    assert hashes(result) == hashes(nowhere)
    assert any("cannot be reached" in record.message for record in caplog.records)
    assert all("\n" not in record.message for record in caplog.records)
    assert states() == []


def test_the_search_data_name_the_place(object_store: ObjectStore) -> None:
    """A place is written down as its address, and read again from it."""
    place = place_of(STORAGE) / "searches" / "one"
    assert place_of(json.loads(json.dumps(str(place)))) == place
