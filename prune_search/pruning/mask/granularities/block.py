"""Blocks of r outputs by c inputs at one kernel position."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prune_search.recipe.axes import GRANULARITIES
from prune_search.recipe.facts import Granularity
from prune_search.recipe.fields import Integer
from prune_search.recipe.registry import Option

if TYPE_CHECKING:
    from torch import Tensor


def _fits(shape: tuple[int, ...], *, rows: int, columns: int) -> bool:
    return shape[0] % rows == 0 and shape[1] % columns == 0


@GRANULARITIES.register(
    "block",
    summary="blocks of outputs × inputs at one kernel position; layers that blocks do not tile are not pruned",
    source="Narang, Undersander & Diamos 2017, Block-Sparse Recurrent Neural Networks, 1711.02782",
    options={
        "rows": Option(Integer(1, 4096), 4, "outputs per block"),
        "columns": Option(Integer(1, 4096), 4, "inputs per block"),
    },
    facts=Granularity(structured=True, by_channels=True, fits=_fits),
)
def block(tensor: Tensor, *, rows: int, columns: int) -> Tensor:
    """A weight [outputs, inputs, *kernel] as [blocks, rows · columns], in row-major order of (output, place, input).

    Example:
        A linear weight [[1, 2, 3, 4], [5, 6, 7, 8]] in blocks of 2 × 2 is [[1, 2, 5, 6], [3, 4, 7, 8]].
    """
    outputs, inputs = tensor.shape[:2]
    tiles = tensor.reshape(outputs // rows, rows, inputs // columns, columns, -1)
    return tiles.permute(0, 4, 2, 1, 3).reshape(-1, rows * columns)
