"""Where the rows of sharded weights lie; and that whole tensors are left as they are."""

from __future__ import annotations

import torch
from torch import nn

from prune_search.tasks.shards import check_whole, first_row, gathered, is_sharded, part_of, resharded, sharded_like


def test_rows_are_divided_as_torch_divides_them() -> None:
    for rows in (1, 3, 7, 8):
        for size in (1, 2, 3, 5):
            chunks = list(torch.arange(rows).chunk(size))
            begins = [int(chunk[0]) for chunk in chunks] + [rows] * (size - len(chunks))
            assert [first_row(torch.zeros(rows, 2), rank, size) for rank in range(size)] == begins


def test_a_whole_network_is_left_as_it_is() -> None:
    model = nn.Sequential(nn.Linear(3, 2))
    weight = model.get_parameter("0.weight")
    assert not is_sharded(model)
    check_whole(model)
    resharded(model)
    assert part_of(weight).data_ptr() == weight.data_ptr()
    assert not part_of(weight).requires_grad
    assert gathered(weight) is weight
    assert sharded_like(part_of(weight), weight).shape == (2, 3)
