"""Digests: equal exactly where names, types, shapes and bits are."""

from __future__ import annotations

import hashlib
import struct

import pytest
import torch
from torch import Tensor

from prune_search.storage.digests import masks_digest, weights_digest


def test_the_digest_of_tensors_is_over_little_endian_bytes() -> None:
    tensors = {"b": torch.tensor([1.0, -2.5]), "a": torch.tensor([[1], [2]], dtype=torch.int16), "c": torch.tensor(1.0)}
    tensors["c"] = tensors["c"].to(torch.bfloat16)
    expected = hashlib.sha256(b"tensors 1\n")
    expected.update(b"1 a int16 [2x1]\n" + struct.pack("<2h", 1, 2))
    expected.update(b"1 b float32 [2]\n" + struct.pack("<2f", 1.0, -2.5))
    expected.update(b"1 c bfloat16 []\n" + b"\x80\x3f")
    assert weights_digest(tensors) == expected.hexdigest()


def test_the_digest_is_of_the_values_and_not_of_how_they_lie() -> None:
    weight = torch.randn(3, 4)
    same = weights_digest({"w": weight, "v": weight})
    assert weights_digest({"v": weight.clone(), "w": weight.t().contiguous().t().requires_grad_()}) == same


def test_the_digest_tells_any_difference() -> None:
    zeros = torch.zeros(4)
    others: list[dict[str, Tensor]] = [
        {},
        {"w": zeros},
        {"v": zeros},
        {"w": -zeros},
        {"w": zeros.reshape(2, 2)},
        {"w": zeros.to(torch.bfloat16)},
        {"w": zeros.to(torch.int32)},
        {"w": zeros[:3]},
        {"w": torch.empty(0)},
        {"w": torch.empty(0, 2)},
        {"w": zeros[:2], "x": zeros[:2]},
    ]
    assert len({weights_digest(tensors) for tensors in others}) == len(others)


def test_the_digest_of_masks_is_over_their_bits() -> None:
    mask = torch.tensor([[True, False, False], [True, True, False], [False, False, True]])
    expected = hashlib.sha256(b"masks 1\n1 m bits [3x3]\n" + bytes([0b00011001, 0b00000001])).hexdigest()
    assert masks_digest({"m": mask}) == expected
    assert masks_digest({"m": mask.t().contiguous().t()}) == expected
    assert masks_digest({"m": ~mask}) != expected
    assert masks_digest({"m": mask.reshape(9)}) != expected
    assert masks_digest({}) != masks_digest({"m": torch.empty(0, dtype=torch.bool)})


def test_only_boolean_masks_have_a_digest() -> None:
    with pytest.raises(ValueError, match=r"'m' is torch\.float32"):
        masks_digest({"m": torch.ones(2)})
