"""Channels that the graph of torch.export couples, and why others stay."""

from __future__ import annotations

import torch
from torch import nn

from prune_search.pruning.mask.graph_channels import graph_channels


class Gated(nn.Module):
    """Two layers whose outputs are multiplied, on a normalized stream."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.up, self.gate = nn.LayerNorm(4), nn.Linear(4, 6), nn.Linear(4, 6)
        self.down, self.out = nn.Linear(6, 4), nn.Linear(4, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        hidden = self.norm(x)
        return self.out(x + self.down(self.up(hidden) * self.gate(hidden).sigmoid()))  # type: ignore[no-any-return]


def test_what_is_multiplied_goes_together_and_the_stream_stays_with_a_reason() -> None:
    torch.manual_seed(0)
    found, reasons = graph_channels(Gated().eval(), frozenset({"out.weight"}), torch.randn(3, 4))
    ((owners, size),) = [(one.owners, one.size) for one in found]
    assert (set(owners), size) == ({"up.weight", "gate.weight"}, 6)
    readers = {claim.parameter for claim in found[0].claims if claim.role == "reader"}
    assert readers == {"down.weight"}
    assert "down.weight" in reasons
    assert reasons["down.weight"]


def test_what_goes_with_a_layer_that_is_left_out_stays() -> None:
    torch.manual_seed(0)
    found, reasons = graph_channels(Gated().eval(), frozenset({"out.weight", "gate.weight"}), torch.randn(3, 4))
    assert found == []
    assert reasons["up.weight"] == "its outputs go with those of a layer that is left out"
