"""Networks that are grown at random of some twenty kinds of blocks, and cut by their masks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from prune_search.pruning.mask.mask_set import MaskSet

WIDTH, PLACES, CLASSES = 8, 4, 5
Run = Callable[[Tensor], Tensor]


class Conv1D(nn.Module):
    """A linear layer as transformers stores it."""

    def __init__(self, outputs: int, inputs: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(inputs, outputs) / inputs**0.5)
        self.bias = nn.Parameter(torch.zeros(outputs))

    def forward(self, x: Tensor) -> Tensor:
        return x @ self.weight + self.bias


class Block(nn.Module):
    """Named layers, and what is done with them: [N, places, width] to the same."""

    def __init__(self, run: Callable[[Any, Tensor], Tensor], layers: Mapping[str, nn.Module]) -> None:
        super().__init__()
        self.run = run
        for name, layer in layers.items():
            self.add_module(name, layer)

    def forward(self, x: Tensor) -> Tensor:
        return self.run(self, x)


def _linear(inputs: int = WIDTH, outputs: int = WIDTH) -> nn.Linear:
    return nn.Linear(inputs, outputs)


def _over_time(run: Run) -> Run:
    return lambda x: run(x.transpose(1, 2)).transpose(1, 2)


def _heads(m: Any, x: Tensor) -> Tensor:
    q, k, v = (layer(x).view(len(x), PLACES, 2, -1).transpose(1, 2) for layer in (m.q, m.k, m.v))
    mixed: Tensor = (q @ k.transpose(-2, -1) * 0.5).softmax(-1) @ v
    added: Tensor = m.o(mixed.transpose(1, 2).flatten(2))
    return x + added


def _swiglu(m: Any, x: Tensor) -> Tensor:
    value, gate = m.a(x).chunk(2, -1)
    added: Tensor = m.b(value * F.silu(gate))
    return x + added


def _shuffled(m: Any, x: Tensor) -> Tensor:
    mixed = F.relu(m.a(x)).view(len(x), PLACES, 2, -1).transpose(-1, -2).flatten(-2)
    added: Tensor = m.b(mixed)
    return x + added


def _halves(m: Any, x: Tensor) -> Tensor:
    first, second = m.a(x).split(WIDTH // 2, -1)
    joined: Tensor = m.b(torch.cat([F.relu(first), second.tanh()], -1))
    return joined


def _tied(block: Block) -> Block:
    block.b.weight = block.a.weight  # type: ignore[union-attr]
    return block


def _two(run: Callable[[Any, Tensor], Tensor], hidden: int = WIDTH, between: int | None = None) -> Block:
    return Block(run, {"a": _linear(WIDTH, hidden), "b": _linear(between or hidden, WIDTH)})


KINDS: dict[str, Callable[[], Block]] = {
    "plain": lambda: _two(lambda m, x: m.b(F.relu(m.a(x))), 12),
    "residual": lambda: _two(lambda m, x: x + m.b(F.gelu(m.a(x)))),
    "glu": lambda: _two(lambda m, x: x + m.b(F.glu(m.a(x), -1)), 16, 8),
    "swiglu": lambda: _two(_swiglu, 16, 8),
    "functional": lambda: _two(lambda m, x: F.relu(F.linear(x, m.a.weight, m.a.bias)) + F.linear(x, m.b.weight)),
    "normalized-weight": lambda: _two(lambda m, x: m.b(F.relu(F.linear(x, F.normalize(m.a.weight))))),
    "autoencoder": lambda: Block(lambda m, x: F.linear(F.relu(m.a(x)), m.a.weight.t()), {"a": _linear(WIDTH, 12)}),
    "tied": lambda: _tied(_two(lambda m, x: m.b(F.relu(m.a(x))))),
    "layer-norm": lambda: Block(lambda m, x: m.b(m.n(m.a(x))), {"a": _linear(), "n": nn.LayerNorm(8), "b": _linear()}),
    "batch-norm": lambda: Block(
        lambda m, x: m.b(F.relu(_over_time(m.n)(m.a(x)))), {"a": _linear(), "n": nn.BatchNorm1d(8), "b": _linear()}
    ),
    "mean-square": lambda: _two(lambda m, x: m.b((h := m.a(x)) * h.square().mean(-1, keepdim=True).rsqrt())),
    "softmax": lambda: _two(lambda m, x: m.b(m.a(x).softmax(-1))),
    "channel-mean": lambda: _two(lambda m, x: m.b((h := F.relu(m.a(x))) - h.mean(-1, keepdim=True))),
    "slopes": lambda: Block(
        lambda m, x: m.b(_over_time(m.s)(m.a(x))), {"a": _linear(), "s": nn.PReLU(8), "b": _linear()}
    ),
    "halves": lambda: _two(_halves),
    "shuffle": lambda: _two(_shuffled),
    "heads": lambda: Block(_heads, {name: _linear() for name in "qkvo"}),
    "attention": lambda: Block(lambda m, x: x + m.t(x, x, x)[0], {"t": nn.MultiheadAttention(8, 2, batch_first=True)}),
    "encoder": lambda: Block(
        lambda m, x: m.t(x), {"t": nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True)}
    ),
    "lstm": lambda: Block(lambda m, x: m.t(x)[0], {"t": nn.LSTM(8, 8, batch_first=True)}),
    "gru": lambda: Block(lambda m, x: m.t(x)[0], {"t": nn.GRU(8, 4, batch_first=True, bidirectional=True)}),
    "convolution": lambda: Block(
        lambda m, x: _over_time(lambda t: m.b(F.relu(m.a(t))))(x),
        {"a": nn.Conv1d(8, 12, 3, padding=1), "b": nn.Conv1d(12, 8, 1)},
    ),
    "depthwise": lambda: Block(
        lambda m, x: _over_time(lambda t: m.b(m.d(F.relu(m.a(t)))))(x),
        {"a": nn.Conv1d(8, 8, 1), "d": nn.Conv1d(8, 8, 3, padding=1, groups=8), "b": nn.Conv1d(8, 8, 1)},
    ),
    "transformers": lambda: Block(lambda m, x: x + m.b(F.gelu(m.a(x))), {"a": Conv1D(16, 8), "b": Conv1D(8, 16)}),
}
# From a body's output and the heads to what the network returns; every head is an output layer.
ENDS: dict[str, tuple[int, Callable[[Any, Tensor], Any]]] = {
    "one": (1, lambda m, x: m.heads[0](x)),
    "functional": (1, lambda m, x: F.linear(F.normalize(x, dim=-1), F.normalize(m.heads[0].weight))),
    "two": (2, lambda m, x: {"scores": m.heads[0](x), "more": [m.heads[1](x)]}),
    "wide": (2, lambda m, x: m.heads[0](x) + m.heads[1](m.seen)),
    "gated": (2, lambda m, x: m.heads[0](x) * m.heads[1](x).sigmoid()),
}


class Grown(nn.Module):
    """Blocks one after the other, and one of the ends."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        torch.manual_seed(seed)
        pick = torch.Generator().manual_seed(seed)
        chosen = torch.randint(len(KINDS), (3,), generator=pick).tolist()
        self.kinds = [list(KINDS)[(seed if place == 0 else at) % len(KINDS)] for place, at in enumerate(chosen)]
        self.end = list(ENDS)[seed % len(ENDS)]
        count, self.finish = ENDS[self.end]
        self.body = nn.Sequential(*(KINDS[kind]() for kind in self.kinds))
        self.join = nn.Linear(WIDTH, WIDTH)
        self.heads = nn.ModuleList(nn.Linear(WIDTH, CLASSES) for _ in range(count))

    def forward(self, x: Tensor) -> Any:
        self.seen = x.mean(1)
        return self.finish(self, F.relu(self.join(self.body(x).mean(1))))


def cut_by(model: nn.Module, masks: MaskSet) -> dict[str, Tensor]:
    """The parameters and buffers without the rows and columns of which a mask leaves nothing."""
    tensors: dict[str, Tensor] = {}
    known = dict(model.named_parameters())
    for name, mask in masks.everything.items():
        value = known[name].detach()
        for dimension in range(min(2, mask.dim())):
            stays = mask.movedim(dimension, 0).reshape(mask.shape[dimension], -1).any(1)
            value = value.index_select(dimension, torch.nonzero(stays).squeeze(1))
        tensors[name] = value
    for prefix, module in model.named_modules():
        if isinstance(module, nn.PReLU):  # whose slopes are no part of a mask, and all alike here
            tensors[f"{prefix}.weight"] = module.weight.detach()[:1]
        if isinstance(module, nn.BatchNorm1d) and f"{prefix}.weight" in masks.held:
            stays = masks.held[f"{prefix}.weight"]
            tensors[f"{prefix}.running_mean"] = module.get_buffer("running_mean")[stays]
            tensors[f"{prefix}.running_var"] = module.get_buffer("running_var")[stays]
    return tensors
