"""A network from the graph is called as its own was, and its operations are counted."""

from __future__ import annotations

import torch
from structured_networks import made
from torch import nn

from prune_search.compact.as_called import AsCalled, graph_flops
from prune_search.compact.flops import flops
from prune_search.compact.from_graph import smaller
from prune_search.tasks.structures import tensors_in


def test_it_takes_what_the_network_takes() -> None:
    model, inputs = made("two-inputs")
    with torch.no_grad():
        expected, found = tensors_in(model(inputs)), tensors_in(AsCalled(smaller(model, inputs))(inputs))
    assert len(expected) == len(found) >= 1
    for one, other in zip(expected, found, strict=True):
        assert torch.allclose(one, other, atol=1e-5)


def test_operations_are_those_that_hooks_count() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 3, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(3 * 16, 5)).eval()
    example = torch.randn(2, 1, 4, 4)
    assert graph_flops(smaller(model, example)) == flops(model, example) == 2 * (16 * 27 + 48 * 5)
