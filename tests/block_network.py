"""A small network of repeated blocks, and batches for it, that layers are decided on block by block."""

from __future__ import annotations

import torch
from torch import Tensor, nn

TOKENS = torch.randint(20, (4, 12), generator=torch.Generator().manual_seed(0))
BATCHES = [(TOKENS[:2], TOKENS[:2]), (TOKENS[2:], TOKENS[2:])]


class Block(nn.Module):
    """A block with two layers on one input and one on theirs, which returns a tuple, as many do."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.up, self.gate = nn.Linear(width, 3 * width), nn.Linear(width, 3 * width, bias=False)
        self.down = nn.Linear(3 * width, width)

    def forward(self, hidden: Tensor, *, scale: float) -> tuple[Tensor, None]:
        inner = self.norm(hidden)
        return hidden + scale * self.down(torch.relu(self.up(inner)) * self.gate(inner)), None


class Network(nn.Module):
    """Embedding, blocks, head; the first block has another scale than the others."""

    def __init__(self, width: int = 16, depth: int = 3) -> None:
        super().__init__()
        self.embedding = nn.Embedding(20, width)
        self.parts = [Block(width) for _ in range(depth)]
        self.blocks = nn.ModuleList(self.parts)
        self.head = nn.Linear(width, 20, bias=False)

    def forward(self, tokens: Tensor) -> Tensor:
        hidden = self.embedding(tokens)
        for place, block in enumerate(self.blocks):
            hidden = block(hidden, scale=0.5 if place == 0 else 1.0)[0]
        return self.head(hidden)  # type: ignore[no-any-return]


def network() -> Network:
    """The same weights each time."""
    torch.manual_seed(3)
    return Network().eval()
