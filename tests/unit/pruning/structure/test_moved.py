"""A dimension of a weight is followed back through what turns, casts or scales it, and through nothing else."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import fx, nn

from prune_search.pruning.structure.moved import dimension_before
from prune_search.pruning.structure.place import name_of
from prune_search.pruning.structure.values import shapes_of

aten = torch.ops.aten


class Weight(nn.Module):
    def __init__(self, run: Callable[[Any], Any]) -> None:
        super().__init__()
        self.run, self.weight = run, nn.Parameter(torch.randn(2, 1, 3))

    def forward(self, x: Any) -> Any:
        return x + self.run(self.weight)


@pytest.mark.parametrize(
    ("run", "before"),
    [
        (aten.numpy_T.default, [2, 1, 0]),
        (aten.mT.default, [0, 2, 1]),
        (lambda w: aten.permute.default(w, [1, -1, 0]), [1, 2, 0]),
        (lambda w: aten.transpose.int(w, 0, -1), [2, 1, 0]),
        (lambda w: aten.squeeze.dim(w, 1), [0, 2]),
        (lambda w: aten.view.default(w, [1, 2, 3]), [None, 0, 2]),
        (lambda w: aten.to.dtype(w, torch.float64), [0, 1, 2]),
        (lambda w: aten.mul.Tensor(w, 0.5), [0, 1, 2]),
        (lambda w: aten.mul.Tensor(w, w), [None] * 3),
        (lambda w: aten.view.default(w, [3, 2]), [None] * 2),
        (lambda w: aten.add.Tensor(w, 1.0), [None] * 3),
    ],
)
def test_where_a_dimension_comes_from(run: Callable[[Any], Any], before: list[int | None]) -> None:
    graph = fx.symbolic_trace(Weight(run))
    shapes = shapes_of(graph, [torch.zeros(1)])
    # After the input and the weight; the sum with the input is the last one.
    node = next(one for one in graph.graph.nodes if one.op == "call_function")
    found = [dimension_before(node, name_of(node), dim, shapes) for dim in range(len(before))]
    assert found == before
