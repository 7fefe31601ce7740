"""Damaged states and failing disks: an altered state is never used, and a valid one is never lost."""

from __future__ import annotations

import errno
import os
import random
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from prune_search.storage import local_files
from prune_search.storage.states import (
    StorageError,
    list_states,
    load_tensors,
    newest_state,
    read_state,
    save_tensors,
    state_folder,
    write_state,
)

pytestmark = pytest.mark.faults

FILES = ("state.safetensors", "manifest.json")
OPERATIONS = ("_make_folder", "_write_bytes", "_fsync", "_rename", "_remove")


def tensors_of(step: int, size: int = 12) -> dict[str, Tensor]:
    weight = torch.randn(size, size, generator=torch.Generator().manual_seed(step))
    return {"weight": weight, "half": weight.to(torch.bfloat16), "mask": weight > 0, "count": torch.tensor(step)}


def put(parent: Path, step: int, size: int = 12) -> Path:
    folder = state_folder(parent, step)
    write_state(folder, tensors_of(step, size), {"step": step, "loss": 1e-05, "name": "é"})
    return folder


def assert_newest(parent: Path, step: int, size: int = 12) -> None:
    found = newest_state(parent, 10**9)
    assert found is not None
    assert found[0] == step
    assert found[1].meta == {"step": step, "loss": 1e-05, "name": "é"}
    expected = tensors_of(step, size)
    assert sorted(found[1].tensors) == sorted(expected)
    assert all(torch.equal(found[1].tensors[name], tensor) for name, tensor in expected.items())


def flipped(data: bytes, bit: int) -> bytes:
    changed = bytearray(data)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


MUTATIONS: tuple[Callable[[bytes, random.Random], bytes], ...] = (
    lambda data, draw: b"",
    lambda data, draw: data[: draw.randrange(1, len(data))],
    lambda data, draw: flipped(data, draw.randrange(8 * len(data))),
    lambda data, draw: flipped(data, draw.randrange(8 * len(data))),
    lambda data, draw: flipped(data, draw.randrange(8 * len(data))),
)


def test_two_hundred_mutations_are_found_and_the_state_before_is_used(tmp_path: Path) -> None:
    put(tmp_path, 100)
    newest = put(tmp_path, 200)
    intact = {name: (newest / name).read_bytes() for name in FILES}
    draw = random.Random(7)
    found = 0
    for count in range(200):
        name = FILES[count % 2]
        (newest / name).write_bytes(MUTATIONS[count // 2 % len(MUTATIONS)](intact[name], draw))
        found += read_state(newest) is None
        assert_newest(tmp_path, 100)
        (newest / name).write_bytes(intact[name])
    assert found == 200
    assert_newest(tmp_path, 200)


@pytest.mark.slow
def test_every_single_bit_of_the_manifest_counts(tmp_path: Path) -> None:
    manifest = put(tmp_path, 100) / "manifest.json"
    intact = manifest.read_bytes()
    for bit in range(8 * len(intact)):
        manifest.write_bytes(flipped(intact, bit))
        assert read_state(manifest.parent) is None, bit


def test_where_every_state_is_damaged_none_is_used(tmp_path: Path) -> None:
    for step in (100, 200):
        os.truncate(put(tmp_path, step) / "state.safetensors", 10)
    assert newest_state(tmp_path, 300) is None


class Disk:
    """Counts what changes the disk, and lets the k-th such call fail: alone, or with all that follow."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.calls: list[str] = []
        self.first_failure, self.lasting = 0, False
        for name in OPERATIONS:
            monkeypatch.setattr(local_files, name, self._watched(name, getattr(local_files, name)))

    def _watched(self, name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any) -> Any:
            self.calls.append(name)
            beyond = len(self.calls) - self.first_failure
            if not self.first_failure or beyond < 0 or (beyond > 0 and not self.lasting):
                return real(*args)
            if name == "_write_bytes":  # a full disk takes a part of it
                args[0].write_bytes(args[1][: len(args[1]) // 2])
            raise OSError(errno.ENOSPC, "No space left on device")

        return call

    def begin(self, first_failure: int = 0, lasting: bool = False) -> None:
        """Count from here on; the first failure is that of the call of this number, none for 0."""
        self.calls, self.first_failure, self.lasting = [], first_failure, lasting


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    return Disk(monkeypatch)


def nothing(folder: Path) -> None:
    """The place is free."""


def corrupt(folder: Path) -> None:
    """A damaged state stands there."""
    folder.mkdir()
    (folder / "manifest.json").write_text("{}", encoding="utf-8")


@pytest.mark.parametrize("lasting", [False, True], ids=["one call fails", "all calls fail from then on"])
@pytest.mark.parametrize(("before", "count"), [(nothing, 6), (corrupt, 9)])
def test_a_write_that_fails_anywhere_leaves_the_state_before_it(
    before: Callable[[Path], None], count: int, lasting: bool, disk: Disk, tmp_path: Path
) -> None:
    whole = tmp_path / "whole"
    put(whole, 100)
    before(state_folder(whole, 200))
    disk.begin()
    put(whole, 200)
    assert len(disk.calls) == count, disk.calls

    for k in range(1, count + 1):
        parent = tmp_path / f"fails-at-{k}"
        put(parent, 100)
        before(state_folder(parent, 200))
        disk.begin(k, lasting)
        raised = None
        try:
            put(parent, 200)
        except StorageError as error:
            raised = str(error)
        failed = disk.calls[k - 1]
        disk.begin()
        # Only the last call, which syncs the folder, comes after the state is in its place.
        assert_newest(parent, 200 if k == count or raised is None else 100)
        if raised is None:
            assert failed == "_remove"  # what was not removed is not in the way
        else:
            assert raised == "step-000000200 cannot be stored: No space left on device"
        assert [step for step, folder in list_states(parent) if read_state(folder)] in ([100], [100, 200])
        assert all(name.startswith((".tmp-", "step-")) for name in os.listdir(parent))
        if not lasting and failed != "_remove":
            assert not any(name.startswith(".tmp-") for name in os.listdir(parent))
        put(parent, 200)
        assert_newest(parent, 200)


@pytest.mark.parametrize("lasting", [False, True], ids=["one call fails", "all calls fail from then on"])
def test_a_tensor_file_that_cannot_be_written_leaves_the_old_one(lasting: bool, disk: Disk, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    for k in range(1, 4):
        disk.begin()
        save_tensors(path, tensors_of(1))
        assert len(disk.calls) == 3
        disk.begin(k, lasting)
        with pytest.raises(StorageError, match=r"^model\.safetensors cannot be stored: No space left on device$"):
            save_tensors(path, tensors_of(2))
        # The last call syncs the folder once the new file is in its place.
        expected = tensors_of(2 if k == 3 else 1)
        assert torch.equal(load_tensors(path)["weight"], expected["weight"])


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    mount = shutil.which("mount")
    if mount is None:
        pytest.skip("there is no mount command here")
    place = tmp_path / "disk"
    place.mkdir()
    options = [mount, "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(place)]
    result = subprocess.run(options, capture_output=True, text=True, check=False)
    if result.returncode:
        pytest.skip(f"no disk of 1 MiB can be mounted here: {' '.join(result.stderr.split())}")
    yield place
    subprocess.run(["umount", str(place)], check=True)


def test_a_full_disk_leaves_the_state_before_it(small_disk: Path) -> None:
    put(small_disk, 100)
    with pytest.raises(StorageError, match=r"^step-000000200 cannot be stored: No space left on device$"):
        put(small_disk, 200, size=600)
    assert os.listdir(small_disk) == ["step-000000100"]
    assert_newest(small_disk, 100)
    put(small_disk, 300)
    assert_newest(small_disk, 300)
    with pytest.raises(StorageError, match=r"^model\.safetensors cannot be stored"):
        save_tensors(small_disk / "model.safetensors", tensors_of(1, size=600))
    assert sorted(os.listdir(small_disk)) == ["step-000000100", "step-000000300"]
