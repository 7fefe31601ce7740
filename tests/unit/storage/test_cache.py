"""States in memory are those of their manifest, bounded, nobody else's to change, and never in the way of a repair."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from prune_search.storage.cache import CACHE, TensorCache
from prune_search.storage.states import read_state, state_folder, write_state


@pytest.fixture
def cache() -> Iterator[TensorCache]:
    """The process's own, with room, and empty again afterwards."""
    CACHE.allow(1000)
    yield CACHE
    CACHE.allow(0)


def tensors(value: float, count: int = 50) -> dict[str, torch.Tensor]:
    """200 bytes, unless it is asked for more."""
    return {"w": torch.full((count,), value)}


def data_file(folder: Path) -> Path:
    """Of a stored state."""
    return folder / "state.safetensors"


def test_a_state_that_was_written_is_not_read_again(tmp_path: Path, cache: TensorCache) -> None:
    folder = state_folder(tmp_path, 1)
    write_state(folder, tensors(1.0), {"step": 1})
    os.truncate(data_file(folder), 0)
    found = read_state(folder)
    assert found is not None
    assert torch.equal(found.tensors["w"], torch.ones(50))
    assert found.meta == {"step": 1}
    cache.allow(0)
    assert read_state(folder) is None


def test_a_state_that_was_read_is_not_read_again(tmp_path: Path, cache: TensorCache) -> None:
    folder = state_folder(tmp_path, 1)
    cache.allow(0)
    write_state(folder, tensors(2.0), {})
    cache.allow(1000)
    assert read_state(folder) is not None
    os.truncate(data_file(folder), 0)
    found = read_state(folder)
    assert found is not None
    assert torch.equal(found.tensors["w"], torch.full((50,), 2.0))


def test_what_is_handed_out_can_be_trained_in_place(tmp_path: Path, cache: TensorCache) -> None:
    folder, own = state_folder(tmp_path, 1), tensors(3.0)
    write_state(folder, own, {})
    own["w"].zero_()
    for _ in range(2):
        found = read_state(folder)
        assert found is not None
        assert torch.equal(found.tensors["w"], torch.full((50,), 3.0))
        found.tensors["w"].zero_()


def test_a_removed_state_is_gone(tmp_path: Path, cache: TensorCache) -> None:
    folder = state_folder(tmp_path, 1)
    write_state(folder, tensors(4.0), {})
    (folder / "manifest.json").unlink()
    assert read_state(folder) is None


def test_a_damaged_file_is_replaced_though_its_content_is_known(tmp_path: Path, cache: TensorCache) -> None:
    folder = state_folder(tmp_path, 1)
    write_state(folder, tensors(5.0), {})
    os.truncate(data_file(folder), 0)
    write_state(folder, tensors(5.0), {})
    cache.allow(0)
    found = read_state(folder)
    assert found is not None
    assert torch.equal(found.tensors["w"], torch.full((50,), 5.0))


def test_what_was_used_longest_ago_goes_first() -> None:
    few = TensorCache(500)
    few.put("a", tensors(1.0))
    few.put("b", tensors(2.0))
    assert few.get("a") is not None
    few.put("c", tensors(3.0))
    assert few.get("b") is None
    assert few.get("a") is not None
    assert few.get("c") is not None


def test_what_is_larger_than_the_room_is_not_kept_and_drives_nothing_out() -> None:
    few = TensorCache(500)
    few.put("a", tensors(1.0))
    few.put("b", tensors(2.0, 200))
    assert few.get("b") is None
    assert few.get("a") is not None


def test_less_room_empties_it() -> None:
    few = TensorCache(500)
    few.put("a", tensors(1.0))
    few.allow(100)
    assert few.get("a") is None
