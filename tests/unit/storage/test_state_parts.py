"""States that arrive in parts have the bytes of those that arrive whole."""

from __future__ import annotations

from collections.abc import Iterator
from io import FileIO
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch
from torch import Tensor

from prune_search.storage.errors import StorageError
from prune_search.storage.manifests import MANIFEST, TENSORS
from prune_search.storage.state_parts import Arriving, write_parts
from prune_search.storage.states import read_state, write_state

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

META = {"step": 3, "ended": False}


def tensors() -> dict[str, Tensor]:
    source = torch.Generator().manual_seed(0)
    return {
        "model/fc.weight": torch.randn(7, 3, generator=source),
        "model/count": torch.tensor(5),
        "model/half": torch.randn(3, 2, generator=source).to(torch.bfloat16),
        "model/none": torch.empty(0, 4),
        "hook/mask/mask/fc.weight": torch.rand(7, 3, generator=source) > 0.5,
    }


def arriving(whole: Tensor, rows: int, taken: list[int]) -> Arriving:
    """A tensor that arrives some rows at a time."""

    def parts() -> Iterator[Tensor]:
        for part in torch.split(whole, rows) if whole.dim() and len(whole) else (whole,):
            taken.append(part.numel())
            yield part

    return Arriving(whole.dtype, tuple(whole.shape), parts)


@pytest.mark.parametrize("rows", [1, 2, 3, 8])
def test_the_bytes_are_those_of_a_whole_state(tmp_path: Path, rows: int) -> None:
    write_state(tmp_path / "whole", tensors(), META)
    write_parts(tmp_path / "parts", {name: arriving(one, rows, []) for name, one in tensors().items()}, META)
    for name in (TENSORS, MANIFEST):
        assert (tmp_path / "parts" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    state = read_state(tmp_path / "parts")
    assert state is not None
    assert all(torch.equal(state.tensors[name], one) for name, one in tensors().items())
    assert state.meta == META


@pytest.mark.parametrize("room", [None, 0, 100])
def test_every_part_is_taken_where_there_is_no_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, room: int | None
) -> None:
    """No file can be made, or it is full after some bytes, of which a write takes a part."""

    class Full(FileIO):
        """A disk with little room."""

        def write(self, data: ReadableBuffer, /) -> int:
            left = (room or 0) - self.tell()
            if left <= 0:
                raise OSError(28, "No space left on device")
            return super().write(memoryview(data)[: min(left, 10)])

    def make(prefix: str, buffering: int) -> FileIO:
        if room is None:
            raise OSError(28, "No space left on device")
        return Full(tmp_path / prefix, "w+")

    monkeypatch.setattr("tempfile.TemporaryFile", make)
    taken: list[int] = []
    with pytest.raises(StorageError, match=r"cannot be put together in .*: No space left on device"):
        write_parts(tmp_path / "parts", {name: arriving(one, 2, taken) for name, one in tensors().items()}, META)
    assert sum(taken) == sum(one.numel() for one in tensors().values())
    assert not (tmp_path / "parts").exists()
