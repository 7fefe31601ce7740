"""Masked weights as bits and values: smaller, and the same bits when unpacked."""

from __future__ import annotations

import torch
from torch import Tensor

from prune_search.compact.packing import pack, unpack


def size(tensors: dict[str, Tensor]) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())


def test_the_example_of_the_docstring() -> None:
    packed = pack({"w": torch.tensor([3.0, 0.0, 0.0, 5.0] * 8)}, {"w": torch.tensor([True, False, False, True] * 8)})
    assert packed["w.bits"].tolist() == [0b10011001] * 4
    assert packed["w.values"].tolist() == [3.0, 5.0] * 8
    assert packed["w.shape"].tolist() == [32]


def test_what_is_packed_is_smaller_and_comes_back_for_every_density_and_type() -> None:
    source = torch.Generator().manual_seed(0)
    for dtype in (torch.float32, torch.float16, torch.float64):
        for density in (0.0, 0.1, 0.5, 1.0):
            mask = torch.rand(7, 3, 3, generator=source) < density
            weights = {"layer.weight": torch.randn(7, 3, 3, generator=source).to(dtype) * mask, "bias": torch.ones(3)}
            packed = pack(weights, {"layer.weight": mask})
            assert size(packed) <= size(weights)
            back = unpack(packed)
            assert back.keys() == weights.keys()
            assert all(torch.equal(back[name], tensor) for name, tensor in weights.items())
            assert back["layer.weight"].dtype == dtype


def test_a_name_that_only_looks_packed_stays_as_it_is() -> None:
    tensors = {"a.bits": torch.ones(2), "b.values": torch.zeros(2), "c.shape": torch.ones(1)}
    assert unpack(pack(tensors, {})).keys() == tensors.keys()
