"""The two-layer network of Buskulic, Fadili, Quéau 2023, 2303.11265."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

ACTIVATIONS: Mapping[str, Callable[[Tensor], Tensor]] = {
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
    "softplus": nn.functional.softplus,
}


class InversePrior(nn.Module):
    """g(u) = V φ(W u) / √k.

    Args:
        inputs: d, figures of u.
        outputs: n.
        width: k.
        activation: φ, by name.
        both: whether V is trained too; else it is a buffer.
    """

    def __init__(self, inputs: int, outputs: int, width: int, activation: str, both: bool) -> None:
        super().__init__()
        self.activation = activation
        self.scale = 1.0 / math.sqrt(width)
        self.hidden = nn.Linear(inputs, width, bias=False)
        self.hidden.weight.data = torch.randn(width, inputs)
        signs = torch.where(torch.rand(outputs, width) < 0.5, -1.0, 1.0)
        self.out: nn.Linear | None = None
        if both:
            self.out = nn.Linear(width, outputs, bias=False)
            self.out.weight.data = signs
        else:
            self.register_buffer("signs", signs)

    def forward(self, u: Tensor) -> Tensor:
        """From [N, …] with d figures each to [N, n]."""
        found = ACTIVATIONS[self.activation](self.hidden(u.flatten(1))) * self.scale
        return nn.functional.linear(found, self.get_buffer("signs")) if self.out is None else self.out(found)
