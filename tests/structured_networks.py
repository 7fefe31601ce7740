"""Small networks of the kinds of layers whose units are found in the graph of torch.export."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from prune_search.tasks.batches import Inputs, adapted


class LayerNormMLP(nn.Module):
    """A residual block behind a layer norm: its width stays, its hidden units can go."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm = nn.Linear(6, 16), nn.LayerNorm(16)
        self.up, self.down, self.out = nn.Linear(16, 24), nn.Linear(24, 16), nn.Linear(16, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.first(x))
        return self.out(x + self.down(F.gelu(self.up(x))))  # type: ignore[no-any-return]


class ConvNeXtBlock(nn.Module):
    """A depthwise convolution, channels last, a scale per channel."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.deep = nn.Conv2d(3, 8, 2, 2), nn.Conv2d(8, 8, 3, padding=1, groups=8)
        self.norm, self.up, self.down = nn.LayerNorm(8), nn.Linear(8, 32), nn.Linear(32, 8)
        self.scale, self.out = nn.Parameter(torch.randn(8)), nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        y = self.down(F.gelu(self.up(self.norm(self.deep(x).permute(0, 2, 3, 1))))) * self.scale
        return self.out((x + y.permute(0, 3, 1, 2)).mean((2, 3)))  # type: ignore[no-any-return]


class UNet(nn.Module):
    """A skip connection by concatenation, a transposed convolution, group norm and pixel shuffle."""

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.norm, self.deep = nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.Conv2d(8, 16, 3, 2, 1)
        self.up, self.both, self.groups = (
            nn.ConvTranspose2d(16, 8, 2, 2),
            nn.Conv2d(16, 12, 3, padding=1),
            nn.GroupNorm(4, 12),
        )
        self.wide, self.out = nn.Conv2d(12, 16, 1), nn.Conv2d(4, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        skip = F.relu(self.norm(self.inner(x)))
        up = self.up(F.relu(self.deep(skip)))
        x = F.silu(self.groups(self.both(torch.cat([skip, up], 1))))
        return self.out(F.relu(F.pixel_shuffle(self.wide(x), 2)))  # type: ignore[no-any-return]


class Grouped(nn.Module):
    """Grouped, depthwise and grouped transposed convolutions, flattened."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.grouped, self.norm = (
            nn.Conv2d(3, 16, 1),
            nn.Conv2d(16, 32, 3, padding=1, groups=4),
            nn.BatchNorm2d(32),
        )
        self.up, self.point = nn.ConvTranspose2d(32, 16, 2, 2, groups=4), nn.Conv2d(16, 8, 1, bias=False)
        self.deep, self.out = nn.Conv2d(8, 16, 3, groups=8), nn.Linear(64, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.up(F.relu(self.norm(self.grouped(F.relu(self.first(x)))))))
        return self.out(F.adaptive_avg_pool2d(F.relu(self.deep(self.point(x))), 2).flatten(1))  # type: ignore[no-any-return]


class TwoInputs(nn.Module):
    """Two inputs, joined and multiplied, and two outputs."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.right, self.joined = nn.Linear(4, 12), nn.Linear(5, 12), nn.Linear(24, 10)
        self.out, self.other = nn.Linear(10, 2), nn.Linear(12, 3)

    def forward(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        left, right = F.relu(self.left(x)), torch.sigmoid(self.right(y))
        return self.out(torch.tanh(self.joined(torch.cat([left, right], -1)))), self.other(left * right)


class GPT(nn.Module):
    """Tied embeddings, heads that share keys and values, a gated block, layer norm and RMS norm."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.places = nn.Embedding(11, 16), nn.Parameter(torch.randn(1, 7, 16) * 0.1)
        self.query, self.key, self.value, self.mix = (
            nn.Linear(16, 16),
            nn.Linear(16, 8),
            nn.Linear(16, 8),
            nn.Linear(16, 16),
        )
        self.norm, self.second = nn.LayerNorm(16), nn.RMSNorm(16)
        self.gate, self.down, self.head = nn.Linear(16, 40), nn.Linear(20, 16), nn.Linear(16, 11, bias=False)
        self.head.weight = self.embed.weight

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x) + self.places
        count, length, width = x.shape
        seen = self.norm(x)
        query, key, value = (
            layer(seen).view(count, length, heads, 4).transpose(1, 2)
            for layer, heads in ((self.query, 4), (self.key, 2), (self.value, 2))
        )
        mixed = F.scaled_dot_product_attention(query, key, value, is_causal=True, enable_gqa=True)
        x = x + self.mix(mixed.transpose(1, 2).reshape(count, length, width))
        gate, up = self.gate(self.second(x)).chunk(2, -1)
        return self.head(x + self.down(F.silu(gate) * up))  # type: ignore[no-any-return]


class ViT(nn.Module):
    """Patches, a class token, and heads from one layer for queries, keys and values."""

    def __init__(self) -> None:
        super().__init__()
        self.patches, self.token = nn.Conv2d(3, 24, 4, 4), nn.Parameter(torch.randn(1, 1, 24))
        self.norm, self.qkv, self.mix = nn.LayerNorm(24), nn.Linear(24, 72), nn.Linear(24, 24)
        self.block = nn.Sequential(nn.LayerNorm(24), nn.Linear(24, 48), nn.GELU(), nn.Linear(48, 24))
        self.out = nn.Linear(24, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patches(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(x.shape[0], -1, -1), x], 1)
        query, key, value = self.qkv(self.norm(x)).reshape(x.shape[0], 5, 3, 4, 6).permute(2, 0, 3, 1, 4)
        weights = ((query * 6**-0.5) @ key.transpose(-2, -1)).softmax(-1)
        x = x + self.mix((weights @ value).transpose(1, 2).reshape(x.shape[0], 5, 24))
        return self.out((x + self.block(x))[:, 0])  # type: ignore[no-any-return]


class Recurrent(nn.Module):
    """LSTM and GRU of two levels, one in two directions, and the module for attention."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.lstm = nn.Embedding(10, 8), nn.LSTM(8, 12, 2, batch_first=True, bidirectional=True)
        self.attention = nn.MultiheadAttention(24, 4, batch_first=True)
        self.gru, self.out = nn.GRU(24, 6, 2, batch_first=True), nn.Linear(12, 3)

    def forward(self, x: Tensor) -> Tensor:
        seen, _ = self.lstm(self.embed(x))
        _, last = self.gru(seen + self.attention(seen, seen, seen)[0])
        return self.out(torch.cat([last[-1], last[0]], -1))  # type: ignore[no-any-return]


class Shuffled(nn.Module):
    """Half of the channels goes past a branch, then both halves are shuffled."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.branch = nn.Conv2d(3, 16, 1), nn.Conv2d(8, 8, 1)
        self.deep, self.last, self.out = nn.Conv2d(8, 8, 3, padding=1, groups=8), nn.Conv2d(16, 6, 1), nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        past, through = F.relu(self.first(x)).chunk(2, 1)
        x = torch.cat([past, F.relu(self.deep(self.branch(through)))], 1)
        count, channels, height, width = x.shape
        x = x.view(count, 2, channels // 2, height, width).transpose(1, 2).reshape(count, channels, height, width)
        return self.out(self.last(x).mean((2, 3)))  # type: ignore[no-any-return]


class Steps(nn.Module):
    """A cell that is called step by step."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.cell, self.out = nn.Embedding(7, 6), nn.GRUCell(6, 8), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        given = self.words(x)
        state = given.new_zeros(x.shape[0], 8)
        for step in range(x.shape[1]):
            state = self.cell(given[:, step], state)
        return self.out(state)  # type: ignore[no-any-return]


class ResponseNorm(nn.Module):
    """Hidden units that are divided by their mean norm, as in ConvNeXt V2, and a norm behind the layer before."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm, self.up, self.down = (
            nn.Conv2d(3, 8, 2, 2),
            nn.LayerNorm(8),
            nn.Linear(8, 16),
            nn.Linear(16, 5),
        )
        self.scale = nn.Parameter(torch.randn(1, 1, 1, 16))
        self.shift = nn.Parameter(torch.randn(1, 1, 1, 16))

    def forward(self, x: Tensor) -> Tensor:
        x = F.gelu(self.up(self.norm(self.first(x).permute(0, 2, 3, 1))))
        response = torch.linalg.vector_norm(x, dim=(1, 2), keepdim=True)
        x = self.scale * x * response / (response.mean(-1, keepdim=True) + 1e-6) + self.shift + x
        return self.down(x.mean((1, 2)))  # type: ignore[no-any-return]


class TiedCoder(nn.Module):
    """The decoder's weights are the encoder's, turned."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(6, 12), nn.Linear(12, 8, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        code = F.relu(self.second(F.relu(self.first(x))))
        return F.relu(code @ self.second.weight) @ self.first.weight


class ByToken(nn.Module):
    """Each of two layers runs on the tokens that a mask picks."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.first = nn.Embedding(11, 8), nn.Linear(8, 10)
        self.ways, self.out = nn.ModuleList(nn.Linear(10, 12) for _ in range(2)), nn.Linear(12, 3)

    def forward(self, x: Tensor) -> Tensor:
        given = F.relu(self.first(self.words(x)))
        made = given.new_zeros(*x.shape, 12)
        for place, way in enumerate(self.ways):
            picked = x % 2 == place
            made[picked] = way(given[picked])
        return self.out(F.hardswish(made))  # type: ignore[no-any-return]


def _pictures() -> Any:
    return torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(1))


# Per network: how it is made, its inputs, and how many of its parameters half of the units leave.
NETWORKS: dict[str, tuple[Callable[[], nn.Module], Callable[[], Any], int]] = {
    "layer-norm-mlp": (LayerNormMLP, lambda: torch.randn(2, 6, generator=torch.Generator().manual_seed(1)), 607),
    "convnext": (ConvNeXtBlock, _pictures, 533),
    "u-net": (UNet, _pictures, 1060),
    "grouped": (Grouped, _pictures, 715),
    "two-inputs": (TwoInputs, lambda: Inputs((torch.ones(2, 4), torch.linspace(-1, 1, 10).reshape(2, 5))), 164),
    "gpt": (GPT, lambda: torch.arange(14).reshape(2, 7) % 11, 1268),
    "vit": (ViT, _pictures, 3833),
    "recurrent": (Recurrent, lambda: torch.arange(10).reshape(2, 5) % 7, 2446),
    "shuffled": (Shuffled, _pictures, 131),
    "steps": (Steps, lambda: torch.arange(10).reshape(2, 5) % 7, 144),
    "response-norm": (ResponseNorm, _pictures, 161),
    "tied-coder": (TiedCoder, lambda: torch.randn(2, 6, generator=torch.Generator().manual_seed(1)), 66),
    "by-token": (ByToken, lambda: torch.arange(14).reshape(2, 7) % 11, 162),
}


def made(name: str) -> tuple[nn.Module, Any]:
    """A network in evaluation mode, and its inputs."""
    torch.manual_seed(0)
    make, inputs, _ = NETWORKS[name]
    return adapted(make()).eval(), inputs()
