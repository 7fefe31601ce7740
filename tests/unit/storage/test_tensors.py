"""Tensor files: what is written is read back, and what cannot be is said in one line."""

from __future__ import annotations

import json
import os
import struct
from pathlib import Path

import pytest
import safetensors
import safetensors.torch
import torch
from torch import Tensor

from prune_search.recipe.problems import UserError
from prune_search.storage.files import StorageError
from prune_search.storage.tensors import decode, encode, load_tensors, save_tensors


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


def test_a_tensor_file_is_read_back(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    save_tensors(path, some_tensors(1))
    save_tensors(path, some_tensors(0), {"z": "1", "key": "é", "a": "2"})
    assert_equal(load_tensors(path), some_tensors(0))
    with safetensors.safe_open(path, "pt") as file:
        assert file.metadata() == {"z": "1", "key": "é", "a": "2"}
        assert torch.equal(file.get_tensor("half"), some_tensors(0)["half"])
    assert os.listdir(tmp_path) == [path.name]


def test_the_metadata_of_a_tensor_file_are_written_in_order(tmp_path: Path) -> None:
    texts = {f"key {number}": "text" for number in range(20)}
    save_tensors(tmp_path / "a", some_tensors(), texts)
    save_tensors(tmp_path / "b", some_tensors(), dict(reversed(texts.items())))
    written = (tmp_path / "a").read_bytes()
    assert written == (tmp_path / "b").read_bytes()
    (length,) = struct.unpack_from("<Q", written)
    assert length % 8 == 0
    assert list(json.loads(written[8 : 8 + length])["__metadata__"]) == sorted(texts)


def test_a_file_of_another_program_is_read(tmp_path: Path) -> None:
    tensors = {"weight": torch.randn(3, 5), "bias": torch.zeros(5, dtype=torch.float16)}
    safetensors.torch.save_file(tensors, tmp_path / "model.safetensors", {"format": "pt"})
    assert_equal(load_tensors(tmp_path / "model.safetensors"), tensors)


def test_a_file_that_is_not_there_is_said_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "masks.safetensors"
    with pytest.raises(UserError) as caught:
        load_tensors(path)
    assert str(caught.value) == f"{path}: cannot be read: No such file or directory"


def test_a_folder_that_is_not_there_takes_no_file(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"^model\.safetensors cannot be stored: No such file or directory$"):
        save_tensors(tmp_path / "absent" / "model.safetensors", {})


def test_the_name_of_the_metadata_is_no_name_of_a_tensor(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="__metadata__"):
        save_tensors(tmp_path / "a", {"__metadata__": torch.zeros(1)})


@pytest.mark.parametrize("at_most", [0, 7, 8, 20, -1])
def test_bytes_that_were_cut_are_refused(at_most: int) -> None:
    with pytest.raises(ValueError, match="is not a valid safetensors"):
        decode(encode(some_tensors())[:at_most])


def test_a_boolean_of_another_byte_is_refused() -> None:
    data = bytearray(encode({"mask": torch.tensor([True, False])}))
    data[-1] = 2
    with pytest.raises(ValueError, match="'mask' contains bytes that are not booleans"):
        decode(bytes(data))
