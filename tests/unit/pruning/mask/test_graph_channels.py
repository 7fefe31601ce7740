"""Channels that the graph of torch.export couples, and why others stay."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from prune_search import find_mask
from prune_search.compact.from_graph import smaller
from prune_search.pruning.mask.graph_channels import graph_channels
from prune_search.recipe.problems import UserError


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


class Own(nn.Module):
    """Rows that are picked from a table, a positional table, a product, a scale: all are parameters of its own."""

    prunable_parameters = ("table", "matrix")

    def __init__(self) -> None:
        super().__init__()
        self.table, self.places = nn.Parameter(torch.randn(9, 6)), nn.Parameter(torch.randn(1, 3, 6))
        self.matrix, self.scale = nn.Parameter(torch.randn(6, 8)), nn.Parameter(torch.randn(8))
        self.out = nn.Linear(8, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.out((((self.table[x] + self.places) @ self.matrix) * self.scale).relu())  # type: ignore[no-any-return]


def test_parameters_of_a_module_s_own_go_with_what_they_are_multiplied_with_or_added_to() -> None:
    torch.manual_seed(0)
    model, example = Own().eval(), torch.randint(0, 9, (2, 3))
    with pytest.warns(UserWarning, match="places: held by a module that does not name it"):
        mask = find_mask(model, "l1", 0.5, scope="uniform", granularity="channel", batches=[(example, None)])
    assert dict(mask.units) == {"table": (6, 3), "matrix": (8, 4)}
    mask.apply(model)
    small = smaller(model, example).network
    with torch.no_grad():
        assert torch.allclose(small(example), model(example), atol=1e-6)
    assert sum(one.numel() for one in small.parameters()) == 9 * 3 + 3 * 3 + 3 * 4 + 4 + 4 * 2 + 2


def test_a_parameter_that_no_module_declares_is_named_where_nothing_can_go() -> None:
    model = Own().eval()
    model.prunable_parameters = ()  # type: ignore[assignment]
    with pytest.raises(UserError, match="table, places, matrix: held by a module itself"):
        find_mask(model, "l1", 0.5, granularity="channel", batches=[(torch.randint(0, 9, (2, 3)), None)])
