"""The network of a small vision transformer."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu, scaled_dot_product_attention


class Block(nn.Module):
    """Attention and an MLP, each behind a layer norm and beside a skip connection; [B, T, width] to the same."""

    def __init__(self, width: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.query, self.key, self.value, self.mix = (nn.Linear(width, width) for _ in range(4))
        self.up, self.down = nn.Linear(width, hidden), nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        """What comes out for the stream [B, T, width]."""
        count, length, width = x.shape
        seen = self.norm1(x)
        query, key, value = (
            layer(seen).reshape(count, length, self.heads, width // self.heads).transpose(1, 2)
            for layer in (self.query, self.key, self.value)
        )
        mixed = scaled_dot_product_attention(query, key, value)
        x = x + self.mix(mixed.transpose(1, 2).reshape(count, length, width))
        return x + self.down(gelu(self.up(self.norm2(x))))  # type: ignore[no-any-return]


class VisionTransformer(nn.Module):
    """Logits [B, classes] of pictures [B, channels, height, width]."""

    def __init__(
        self, inputs: int, patches: int, classes: int, patch: int, width: int, depth: int, heads: int, hidden: int
    ) -> None:
        super().__init__()
        self.patches = nn.Conv2d(inputs, width, patch, patch)
        self.places = nn.Parameter(nn.init.trunc_normal_(torch.empty(1, patches, width), std=0.02))
        self.blocks = nn.ModuleList(Block(width, heads, hidden) for _ in range(depth))
        self.norm, self.out = nn.LayerNorm(width), nn.Linear(width, classes)

    def forward(self, x: Tensor) -> Tensor:
        """The logits of pictures."""
        x = self.patches(x).flatten(2).transpose(1, 2) + self.places
        for block in self.blocks:
            x = block(x)
        return self.out(self.norm(x).mean(1))  # type: ignore[no-any-return]
