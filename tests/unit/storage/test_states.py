"""States and tensor files: what is stored is read back, whole or not at all."""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from torch import Tensor

from prune_search.storage import states
from prune_search.storage.states import (
    list_states,
    newest_state,
    read_state,
    state_folder,
    write_state,
)

META = {"step": 7, "loss": 0.1, "nested": {"list": [1, None, True, "é"]}, "empty": {}}


def some_tensors(seed: int = 0) -> dict[str, Tensor]:
    draw = torch.Generator().manual_seed(seed)
    weight = torch.randn(4, 6, generator=draw)
    return {
        "weight": weight,
        "view": weight.t(),
        "half": weight.to(torch.bfloat16),
        "mask": weight > 0,
        "count": torch.tensor(3),
        "none": torch.empty(0, 2),
        "double": weight.to(torch.float64),
    }


def assert_equal(read: dict[str, Tensor], written: dict[str, Tensor]) -> None:
    assert sorted(read) == sorted(written)
    for name, tensor in written.items():
        assert read[name].dtype == tensor.dtype
        assert torch.equal(read[name], tensor)


def test_a_state_is_read_back_as_it_was_written(tmp_path: Path) -> None:
    folder = state_folder(tmp_path / "deep" / "down", 7)
    write_state(folder, some_tensors(), META)
    state = read_state(folder)
    assert state is not None
    assert_equal(state.tensors, some_tensors())
    assert state.meta == META
    assert list(state.meta) == list(META)
    assert sorted(os.listdir(folder)) == ["manifest.json", "state.safetensors"]
    assert os.listdir(folder.parent) == ["step-000000007"]


def test_the_manifest_says_what_the_files_are(tmp_path: Path) -> None:
    folder = state_folder(tmp_path, 7)
    write_state(folder, some_tensors(), {"a": 1})
    data = (folder / "state.safetensors").read_bytes()
    content = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    entry = {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}
    digest = content.pop("sha256")
    assert content == {"format": 2, "files": {"state.safetensors": entry}, "meta": {"a": 1}}
    assert digest == hashlib.sha256(json.dumps(content).encode() + b"\n").hexdigest()


def test_equal_states_are_equal_bytes(tmp_path: Path) -> None:
    written = []
    for name in "ab":
        folder = state_folder(tmp_path / name, 7)
        write_state(folder, some_tensors(), META)
        written.append([(folder / file).read_bytes() for file in ("manifest.json", "state.safetensors")])
    assert written[0] == written[1]


def test_tensors_that_are_read_have_memory_of_their_own(tmp_path: Path) -> None:
    folder = state_folder(tmp_path, 7)
    write_state(folder, some_tensors(), {})
    first, second = read_state(folder), read_state(folder)
    assert first is not None
    assert second is not None
    for tensor in first.tensors.values():
        tensor.zero_()
        assert tensor.data_ptr() % 64 == 0
    assert_equal(second.tensors, some_tensors())


def test_the_first_write_wins(tmp_path: Path) -> None:
    folder = state_folder(tmp_path, 7)
    write_state(folder, some_tensors(0), {"writer": 1})
    write_state(folder, some_tensors(1), {"writer": 2})
    state = read_state(folder)
    assert state is not None
    assert state.meta == {"writer": 1}
    assert_equal(state.tensors, some_tensors(0))
    assert os.listdir(tmp_path) == [folder.name]


@pytest.mark.parametrize("corrupt", ["cut", "incomplete", "empty folder", "file", "link", "dangling link"])
def test_a_corrupt_state_is_replaced(corrupt: str, tmp_path: Path) -> None:
    folder, elsewhere = state_folder(tmp_path / "states", 7), tmp_path / "elsewhere"
    write_state(folder, some_tensors(0), {"writer": 1})
    if corrupt == "cut":
        os.truncate(folder / "state.safetensors", 100)
    elif corrupt == "incomplete":
        (folder / "manifest.json").unlink()
    else:
        folder.rename(elsewhere)
        damage: dict[str, Callable[[], None]] = {
            "empty folder": folder.mkdir,
            "file": folder.touch,
            "link": lambda: folder.symlink_to(elsewhere),
            "dangling link": lambda: folder.symlink_to("nowhere"),
        }
        damage[corrupt]()
    write_state(folder, some_tensors(1), {"writer": 2})
    state = read_state(folder)
    assert state is not None
    assert state.meta == {"writer": 2}
    assert os.listdir(tmp_path / "states") == [folder.name]
    if corrupt == "link":
        assert len(os.listdir(elsewhere)) == 2


@pytest.mark.parametrize(
    "meta", [{"loss": float("nan")}, {"a": object()}, {"a": {1: 2, "1": 3}}, {"a": "x" * 17_000_000}]
)
def test_meta_that_could_not_be_read_back_is_refused_before_anything_is_written(meta: Any, tmp_path: Path) -> None:
    with pytest.raises((ValueError, TypeError)):
        write_state(state_folder(tmp_path, 7), {}, meta)
    assert os.listdir(tmp_path) == []


def test_an_empty_state_is_a_state(tmp_path: Path) -> None:
    write_state(state_folder(tmp_path, 0), {}, {})
    state = read_state(state_folder(tmp_path, 0))
    assert state is not None
    assert (state.tensors, state.meta) == ({}, {})


def test_nothing_is_read_where_nothing_is(tmp_path: Path) -> None:
    assert read_state(tmp_path / "step-000000001") is None
    assert read_state(tmp_path / "a\x00b") is None
    assert list_states(tmp_path / "absent") == []
    assert newest_state(tmp_path / "absent", 10) is None


def test_masks_are_stored_as_bits(tmp_path: Path) -> None:
    draw = torch.Generator().manual_seed(0)
    masks = {
        f"mask/{place}": torch.rand(shape, generator=draw) > 0.5
        for place, shape in enumerate([(), (3,), (0, 2), (9, 7)])
    }
    write_state(state_folder(tmp_path, 1), {**masks, "weight": torch.ones(2)}, {})
    stored = safetensors.torch.load_file(state_folder(tmp_path, 1) / "state.safetensors")
    assert {name: tuple(tensor.shape) for name, tensor in stored.items()} == {
        "bits//mask/0": (1,),
        "bits/3/mask/1": (1,),
        "bits/0x2/mask/2": (0,),
        "bits/9x7/mask/3": (8,),
        "weight": (2,),
    }
    state = read_state(state_folder(tmp_path, 1))
    assert state is not None
    assert list(state.tensors) == sorted(state.tensors)
    assert_equal(state.tensors, {**masks, "weight": torch.ones(2)})
    write_state(state_folder(tmp_path, 2), {"weight": torch.ones(2)}, {})
    assert json.loads((state_folder(tmp_path, 2) / "manifest.json").read_text())["format"] == 1


def test_a_large_state_is_read_from_its_file_without_a_copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(states, "LARGE", 1)
    write_state(state_folder(tmp_path, 7), some_tensors(), META)
    first = read_state(state_folder(tmp_path, 7))
    assert first is not None
    assert_equal(first.tensors, some_tensors())
    with open("/proc/self/maps") as maps:
        assert "step-000000007/state.safetensors" in maps.read()
    for tensor in first.tensors.values():
        # Nothing of it reaches the file, and the file can go.
        tensor.zero_()
    second = read_state(state_folder(tmp_path, 7))
    assert second is not None
    states.remove_state(state_folder(tmp_path, 7))
    assert_equal(second.tensors, some_tensors())


def test_a_large_state_of_another_bit_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(states, "LARGE", 1)
    write_state(state_folder(tmp_path, 7), some_tensors(), META)
    path = state_folder(tmp_path, 7) / "state.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    assert read_state(state_folder(tmp_path, 7)) is None


def test_states_are_listed_by_step(tmp_path: Path) -> None:
    for step in (12, 3, 1_000_000_000, 500):
        state_folder(tmp_path, step).mkdir()
    for name in ("step-12", "step-0000000012", "step-00000001a", "step--00000001", ".tmp-1-0123456789abcdef", "other"):
        (tmp_path / name).mkdir()
    steps = [3, 12, 500, 1_000_000_000]
    assert list_states(tmp_path) == [(step, state_folder(tmp_path, step)) for step in steps]


def test_the_newest_state_at_or_below_a_step_is_found(tmp_path: Path) -> None:
    for step in (0, 100, 200):
        write_state(state_folder(tmp_path, step), {}, {"step": step})
    found = {at_most: newest_state(tmp_path, at_most) for at_most in (0, 99, 100, 199, 10**9)}
    assert {at_most: state[0] for at_most, state in found.items() if state} == {
        0: 0,
        99: 0,
        100: 100,
        199: 100,
        10**9: 200,
    }
    assert all(state and state[1].meta == {"step": state[0]} for state in found.values())
    assert newest_state(tmp_path, -1) is None


def test_a_corrupt_state_is_passed_over_with_one_line(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for step in (100, 200, 300):
        write_state(state_folder(tmp_path, step), {}, {"step": step})
    os.truncate(state_folder(tmp_path, 300) / "state.safetensors", 0)
    (state_folder(tmp_path, 200) / "manifest.json").write_text("{}", encoding="utf-8")
    with caplog.at_level(logging.WARNING, "prune_search"):
        found = newest_state(tmp_path, 300)
    assert found is not None
    assert found[0] == 100
    messages = [record.getMessage() for record in caplog.records if record.name == "prune_search"]
    assert len(messages) == 2
    assert "step-000000300" in messages[0]
    assert "step-000000200" in messages[1]
    assert not any("\n" in message for message in messages)
