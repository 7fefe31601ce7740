"""Granularities: which weights make a unit, and the way back from units to weights."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from prune_search.pruning.mask.units import Grouping
from prune_search.recipe.axes import GRANULARITIES
from prune_search.recipe.recipe import Named


def grouping(written: Any) -> Grouping:
    return Grouping(Named.of(GRANULARITIES, written))


@pytest.mark.parametrize("shape", [(4, 3), (4, 3, 3, 3), (5, 2, 3)])
def test_single_weights_are_units_in_row_major_order(shape: tuple[int, ...]) -> None:
    weight = torch.arange(torch.Size(shape).numel()).reshape(shape)
    assert torch.equal(grouping("weight").split(weight).squeeze(1), weight.flatten())


def test_a_filter_is_all_weights_of_one_output_unit() -> None:
    weight = torch.arange(24).reshape(2, 3, 2, 2)
    assert grouping("filter").split(weight).tolist() == [list(range(12)), list(range(12, 24))]
    kept = grouping("filter").join(torch.tensor([False, True]), weight.shape)
    assert [bool(kept[0].any()), bool(kept[1].all())] == [False, True]


def test_weights_in_another_memory_layout_are_the_same_units() -> None:
    weight = torch.randn(3, 2, 2, 2).to(memory_format=torch.channels_last)
    for written in ("weight", "filter"):
        assert torch.equal(grouping(written).split(weight), grouping(written).split(weight.contiguous()))


def test_filters_leave_the_output_layer_alone_and_weights_do_not() -> None:
    assert not grouping("filter").prunes_output_layer
    assert grouping("weight").prunes_output_layer
