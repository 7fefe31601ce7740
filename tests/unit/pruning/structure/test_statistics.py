"""Norms and means without some places give what those of the masked network do."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from prune_search.pruning.structure.capture import capture
from prune_search.pruning.structure.choices import analyze
from prune_search.pruning.structure.cut import cut, rebuilt, tensors_of, zeroed
from prune_search.pruning.structure.sets import NEURON, WIDTH, units_of


class Written(nn.Module):
    """RMS norm as transformers writes it."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        return self.weight * (x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 0.1))


class Normed(nn.Module):
    def __init__(self, norm: nn.Module) -> None:
        super().__init__()
        self.first, self.norm, self.last = nn.Linear(3, 6), norm, nn.Linear(6, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.norm(self.first(x)))  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    "norm", [nn.LayerNorm(6, eps=0.1), nn.LayerNorm(6, bias=False), nn.RMSNorm(6), nn.RMSNorm(6, eps=0.2), Written(6)]
)
def test_a_norm_goes_on_counting_what_was_cut_out(norm: nn.Module) -> None:
    torch.manual_seed(0)
    model, x = Normed(norm).eval(), torch.randn(5, 3)
    with torch.no_grad():
        for parameter in norm.parameters():
            parameter.add_(torch.randn(6))
    (within,) = units_of(analyze(capture(model, x)))
    assert (within.kind, len(within.classes)) == (NEURON, 6)
    analysis = analyze(capture(model, x), widths=True)
    (units,) = units_of(analysis)
    assert (units.kind, len(units.classes)) == (WIDTH, 6)
    removed = units.classes[[0, 3, 4]]
    with torch.no_grad():
        masked = rebuilt(analysis, zeroed(analysis, [units], removed, tensors_of(analysis)))
        small = cut(analysis, removed)
        assert torch.allclose(small(x), masked(x), atol=1e-6)
    assert sorted(tuple(one.shape) for one in small.parameters())[-1] == (3, 3)
