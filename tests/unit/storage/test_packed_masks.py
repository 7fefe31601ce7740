"""Masks as bits: there and back, and what cannot be one is refused."""

from __future__ import annotations

import pytest
import torch

from prune_search.storage.packed_masks import has_masks, packed, unpacked


def test_masks_come_back_as_they_were_and_take_a_bit_a_place() -> None:
    draw = torch.Generator().manual_seed(0)
    for shape in ((), (1,), (8,), (9,), (0, 3), (5, 4, 3)):
        tensors = {"z": torch.rand(shape, generator=draw) > 0.5, "a": torch.ones(2)}
        bits = packed(tensors)
        assert not has_masks(bits)
        assert sum(tensor.nbytes for tensor in bits.values()) == 8 + -(-tensors["z"].numel() // 8)
        again = unpacked(bits)
        assert list(again) == ["a", "z"]
        assert all(torch.equal(again[name], tensor) for name, tensor in tensors.items())


def test_what_is_laid_out_in_another_order_is_the_same_mask() -> None:
    mask = torch.rand(4, 6, generator=torch.Generator().manual_seed(0)) > 0.5
    turned = mask.t().contiguous().t()
    assert torch.equal(packed({"m": mask})["bits/4x6/m"], packed({"m": turned})["bits/4x6/m"])


@pytest.mark.parametrize(
    "tensors",
    [
        {"bits/9/m": torch.zeros(1, dtype=torch.uint8)},
        {"bits/8/m": torch.zeros(1)},
        {"bits/-8/m": torch.zeros(1, dtype=torch.uint8)},
        {"bits/²/m": torch.zeros(1, dtype=torch.uint8)},
        {"bits/8/m": torch.zeros(1, dtype=torch.uint8), "m": torch.zeros(8)},
    ],
)
def test_bits_that_fit_no_mask_are_refused(tensors: dict[str, torch.Tensor]) -> None:
    with pytest.raises(ValueError, match="a mask has"):
        unpacked(tensors)


def test_a_name_of_packed_masks_is_no_name_of_a_tensor() -> None:
    with pytest.raises(ValueError, match="cannot be named"):
        packed({"bits/3/m": torch.zeros(3)})
