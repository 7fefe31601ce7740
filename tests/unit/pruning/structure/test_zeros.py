"""Branches of zeros leave the graph, and what they were added to stays."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from prune_search.pruning.structure.capture import capture
from prune_search.pruning.structure.zeros import has_removed_places, without_zeros


class Branch(nn.Module):
    """A residual block with a scale, and a second term that is not shaped like the first."""

    def __init__(self) -> None:
        super().__init__()
        self.up, self.down, self.norm, self.scale = nn.Linear(4, 6), nn.Linear(6, 4), nn.LayerNorm(4), nn.Linear(4, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.norm(self.down(torch.tanh(self.up(x))))
        return self.scale(x) + x  # type: ignore[no-any-return]


def test_a_branch_of_zeros_goes_with_all_that_only_it_needs() -> None:
    torch.manual_seed(0)
    model, x = Branch().eval(), torch.randn(2, 4)
    assert without_zeros(capture(model, x)) == []
    with torch.no_grad():
        model.norm.weight.zero_()
        captured = capture(model, x)
        expected = model(x)
        gone = without_zeros(captured)
        assert sorted(gone) == ["down.bias", "down.weight", "norm.bias", "norm.weight", "up.bias", "up.weight"]
        assert torch.equal(captured.graph(x), expected)


def test_a_term_of_zeros_that_spreads_another_stays() -> None:
    torch.manual_seed(0)
    model, x = Branch().eval(), torch.randn(2, 4)
    with torch.no_grad():
        # What is left of it would be [2, 1].
        model.norm.bias.fill_(1.0)
        model.norm.weight.zero_()
        assert without_zeros(capture(model, x)) == []


def test_places_that_a_mask_removed_are_zeros_among_others() -> None:
    assert not has_removed_places({"a": nn.Parameter(torch.zeros(3)), "b": nn.Parameter(torch.ones(3))})
    assert has_removed_places({"a": nn.Parameter(torch.tensor([0.0, 1.0]))})
