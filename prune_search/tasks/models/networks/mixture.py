"""A mixture of experts: for every token the few that its router chooses, weighed, beside a skip connection."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Mixture(nn.Module):
    """From [..., width] to the same: x + Σ gate · expert(norm(x)) over the chosen experts.

    The gates are a softmax over the logits of the chosen ones. All experts run on all tokens, so that the network can
    be captured as a graph; those that are not chosen count 0 times.

    Args:
        width: of a token.
        hidden: neurons of an expert.
        count: of the experts.
        chosen: experts of a token.
    """

    def __init__(self, width: int, hidden: int, count: int, chosen: int) -> None:
        super().__init__()
        self.chosen = chosen
        self.norm = nn.LayerNorm(width)
        self.router = nn.Linear(width, count)
        self.experts = nn.ModuleList(
            nn.Sequential(nn.Linear(width, hidden), nn.ReLU(), nn.Linear(hidden, width)) for _ in range(count)
        )

    def forward(self, x: Tensor) -> Tensor:
        """The stream and what the experts add to it."""
        seen = self.norm(x)
        best, places = torch.topk(self.router(seen), self.chosen)
        gates = best.softmax(-1)
        made = x
        for at, expert in enumerate(self.experts):
            made = made + (gates * (places == at)).sum(-1, keepdim=True) * expert(seen)
        return made
