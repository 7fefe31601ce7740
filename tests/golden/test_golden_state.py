"""A stored state of format 1 is read for ever: its bytes lie in the repository."""

from __future__ import annotations

import shutil
from pathlib import Path

import torch
from add_state import META, PLACE, tensors

from prune_search.storage.states import newest_state, state_folder


def test_a_state_of_format_1_is_read() -> None:
    found = newest_state(PLACE, 10)
    assert found is not None
    step, state = found
    assert step == 3
    assert state.meta == META
    assert state.tensors.keys() == tensors().keys()
    for name, tensor in tensors().items():
        assert state.tensors[name].dtype == tensor.dtype
        assert torch.equal(state.tensors[name], tensor)


def test_one_bit_of_it_counts(tmp_path: Path) -> None:
    shutil.copytree(PLACE, tmp_path / "copy")
    path = state_folder(tmp_path / "copy", 3) / "state.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    assert newest_state(tmp_path / "copy", 10) is None
