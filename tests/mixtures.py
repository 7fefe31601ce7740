"""Mixtures of experts as people write them, for tests: dense and sparse, routed well and in ways that are not known."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def expert(width: int = 4, hidden: int = 3) -> nn.Module:
    return nn.Sequential(nn.Linear(width, hidden), nn.SiLU(), nn.Linear(hidden, width))


class Sparse(nn.Module):
    """Every expert runs on the tokens that chose it only, so that no graph can be captured; gates sum to 1."""

    def __init__(self, width: int = 4, count: int = 5, chosen: int = 2) -> None:
        super().__init__()
        self.top_k, self.num_experts = chosen, count
        self.gate = nn.Linear(width, count, bias=False)
        self.experts = nn.ModuleList(expert(width) for _ in range(count))

    def forward(self, x: Tensor) -> Tensor:
        tokens = x.reshape(-1, x.shape[-1])
        gates, places = self.gate(tokens).softmax(-1).topk(self.top_k, dim=-1)
        gates = gates / gates.sum(-1, keepdim=True)
        made = torch.zeros_like(tokens)
        for at in range(self.num_experts):
            rows, slots = torch.where(places == at)
            if len(rows):
                made.index_add_(0, rows, gates[rows, slots, None] * self.experts[at](tokens[rows]))
        return x + made.reshape(x.shape)


class Keyed(nn.Module):
    """Experts in a dict, looked up by their keys; one of them runs on a token."""

    def __init__(self, width: int = 4, count: int = 5) -> None:
        super().__init__()
        self.router = nn.Linear(width, count)
        self.experts = nn.ModuleDict({f"expert_{at}": expert(width) for at in range(count)})

    def forward(self, x: Tensor) -> Tensor:
        share, chosen = self.router(x).softmax(-1).max(-1)
        made = torch.zeros_like(x)
        for at in range(len(self.experts)):
            picked = chosen == at
            made[picked] = share[picked][:, None] * self.experts[f"expert_{at}"](x[picked])
        return x + made


class Mixed(nn.Module):
    """All experts at once, weighed by a softmax in one product that no operand of is one expert's output."""

    def __init__(self, width: int = 4, count: int = 3) -> None:
        super().__init__()
        self.router = nn.Linear(width, count)
        self.experts = nn.ModuleList(expert(width) for _ in range(count))

    def forward(self, x: Tensor) -> Tensor:
        made = torch.stack([one(x) for one in self.experts], -1)
        return torch.einsum("...de,...e->...d", made, self.router(x).softmax(-1))


class Corrected(nn.Module):
    """The router's output is squashed and shifted, so that an expert can be chosen whatever the router says of it."""

    def __init__(self, width: int = 4, count: int = 4) -> None:
        super().__init__()
        self.gate = nn.Linear(width, count)
        self.shift = nn.Parameter(torch.tensor([3.0, 2.0, 1.0, 0.0]))
        self.experts = nn.ModuleList(expert(width) for _ in range(count))

    def forward(self, x: Tensor) -> Tensor:
        places = (self.gate(x).sigmoid() + self.shift).topk(1, -1).indices
        made = x
        for at, one in enumerate(self.experts):
            made = made + (places == at) * one(x)
        return made


class TwoRouters(Mixed):
    """Two layers beside the experts have as many outputs as there are experts."""

    def __init__(self) -> None:
        super().__init__()
        self.noise_gate = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) + 0 * torch.sum(self.noise_gate(x))


class Unrouted(nn.Module):
    """The mean of experts, which nothing routes to."""

    def __init__(self) -> None:
        super().__init__()
        self.experts = nn.ModuleList(expert() for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        return torch.stack([one(x) for one in self.experts]).mean(0)


class Layers(nn.Module):
    """Three layers one after the other, and a head of three classes: no experts."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(expert() for _ in range(3))
        self.head = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        for one in self.layers:
            x = x + one(x)
        found: Tensor = self.head(x)
        return found


def network(*blocks: nn.Module) -> nn.Module:
    """Blocks between two linear layers, for inputs [B, 6], in evaluation mode."""
    return nn.Sequential(nn.Linear(6, 4), *blocks, nn.Linear(4, 3)).eval()


def tokens(count: int = 12) -> Tensor:
    return torch.randn(count, 6, generator=torch.Generator().manual_seed(3))


def mixtral(**values: object) -> nn.Module:
    """A Mixtral of two small blocks, its experts stacked in one tensor, in evaluation mode."""
    import transformers

    torch.manual_seed(0)
    sizes = {"vocab_size": 31, "hidden_size": 16, "intermediate_size": 12, "num_hidden_layers": 2}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2, "num_local_experts": 4, "num_experts_per_tok": 2}
    none = {"bos_token_id": None, "eos_token_id": None, "pad_token_id": None, "use_cache": False}
    config = transformers.MixtralConfig(**{**sizes, **heads, **none, **values})
    model: nn.Module = transformers.MixtralForCausalLM(config).eval()
    return model
