"""Smaller networks from the graph: the same outputs, and programs that plain torch loads."""

from __future__ import annotations

import io

import pytest
import torch
from structured_networks import NETWORKS, made
from torch import nn

import prune_search
from prune_search.compact.as_called import AsCalled, graph_flops
from prune_search.compact.from_graph import smaller
from prune_search.tasks.batches import named_tensors
from prune_search.tasks.structures import repeated, tensors_in

FAST = ("two-inputs",)


@pytest.mark.filterwarnings("ignore:.*are not pruned")
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[] if name in FAST else [pytest.mark.slow]) for name in NETWORKS]
)
def test_a_masked_network_becomes_a_smaller_one_that_loads_without_its_class(name: str) -> None:
    model, inputs = made(name)
    mask = prune_search.find_mask(model, "l1", 0.5, scope="uniform", granularity="channel", batches=[(inputs, None)])
    mask.apply(model)
    small = smaller(model, inputs)
    assert not small.reason
    total = sum(parameter.numel() for parameter in model.parameters())
    nonzero = sum(int((parameter != 0).sum()) for parameter in model.parameters())
    left = sum(parameter.numel() for parameter in small.network.parameters())
    assert nonzero <= left < total
    # What is 0 and stays are single values, no units.
    assert left <= 1.05 * nonzero
    buffer = io.BytesIO()
    torch.export.save(small.program, buffer)
    buffer.seek(0)
    loaded = torch.export.load(buffer).module()
    more = repeated(inputs, 5)
    with torch.no_grad():
        expected, found = tensors_in(model(more)), tensors_in(loaded(*named_tensors(model, more).values()))
        called = tensors_in(AsCalled(small)(more))
    for one, other, third in zip(expected, found, called, strict=True):
        assert torch.allclose(one, other, rtol=1e-4, atol=1e-5 * float(one.abs().max()))
        assert torch.allclose(other, third, rtol=1e-4, atol=1e-5 * float(one.abs().max()))


class Counted(nn.Module):
    """Its code goes through the examples one by one, so that torch.export keeps how many there are."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.out = nn.Linear(4, 6), nn.Linear(6, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.stack([self.out(self.first(row).relu()) for row in x])


def test_a_network_that_fixes_its_batch_says_so() -> None:
    torch.manual_seed(0)
    assert smaller(Counted().eval(), torch.randn(3, 4)).batch is not None
    assert smaller(Sigmoid().eval(), torch.randn(3, 4)).batch is None


class Sigmoid(nn.Module):
    """What is 0 becomes one half on the way to what reads it."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.out = nn.Linear(4, 6), nn.Linear(6, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.out(torch.sigmoid(self.first(x)))  # type: ignore[no-any-return]


def test_a_unit_that_is_0_stays_where_it_counts_and_goes_where_nothing_reads_it() -> None:
    torch.manual_seed(0)
    model = Sigmoid().eval()
    with torch.no_grad():
        model.first.weight[:3] = 0
        model.first.bias[:3] = 0
        model.out.weight[:, 0] = 0
        model.out.weight[:, 5] = 0
    small = smaller(model, torch.randn(2, 4))
    assert small.reason == "some units that are 0 still affect the layers that read them"
    assert [tuple(one.shape) for one in small.network.parameters()] == [(4, 4), (4,), (2, 4), (2,)]
    assert small.removed == {"first.weight": (2, 6)}
    assert graph_flops(small) == 2 * (4 * 4 + 2 * 4)
    rounded = smaller(model, torch.randn(2, 4), multiple=5)
    assert [tuple(one.shape) for one in rounded.network.parameters()] == [(5, 4), (5,), (2, 5), (2,)]
