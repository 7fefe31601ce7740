"""Input channels: what reads one, in plain, grouped, depthwise and transposed convolutions."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from prune_search import find_mask

LAYERS: dict[str, tuple[Any, tuple[int, ...]]] = {
    "linear": (lambda: nn.Linear(6, 4), (2, 6)),
    "plain": (lambda: nn.Conv2d(6, 4, 3, bias=False), (2, 6, 5, 5)),
    "grouped": (lambda: nn.Conv2d(6, 4, 3, groups=2, bias=False), (2, 6, 5, 5)),
    "depthwise": (lambda: nn.Conv2d(6, 12, 3, groups=6, bias=False), (2, 6, 5, 5)),
    "transposed": (lambda: nn.ConvTranspose2d(6, 4, 3, bias=False), (2, 6, 5, 5)),
    "transposed and grouped": (lambda: nn.ConvTranspose2d(6, 4, 3, groups=2, bias=False), (2, 6, 5, 5)),
}


@pytest.mark.parametrize("kind", LAYERS)
def test_a_removed_input_channel_is_not_seen_and_every_other_is(kind: str) -> None:
    torch.manual_seed(0)
    make, shape = LAYERS[kind]
    layer = make()
    model = nn.Sequential(layer)
    inputs = torch.randn(shape, dtype=torch.float32)

    def seen() -> list[bool]:
        """Per channel, whether the output depends on it."""
        found = []
        for channel in range(6):
            other = inputs.clone()
            other[:, channel] += 1.0
            found.append(not torch.equal(model(inputs), model(other)))
        return found

    assert all(seen())
    mask = find_mask(model, "l1", 0.5, granularity="input-channel", example_input=inputs)
    assert mask.receipt().units_kept == 3
    assert mask.receipt().layers[0].units == 6
    sizes = strength(layer)
    mask.apply(model)
    assert seen() == [place in sizes.topk(3).indices.tolist() for place in range(6)]


def strength(layer: Any) -> Tensor:
    """Σ|w| over all weights that an input channel meets."""
    weight = layer.weight.detach().abs()
    if isinstance(layer, nn.Linear):
        return torch.as_tensor(weight.sum(0))
    groups = layer.groups
    if isinstance(layer, nn.ConvTranspose2d):
        return torch.as_tensor(weight.sum((1, 2, 3)))
    return torch.as_tensor(weight.reshape(groups, -1, *weight.shape[1:]).sum((1, 3, 4)).reshape(-1))


def test_biases_and_the_layer_before_stay() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 3, 3))
    mask = find_mask(model, "l1", 0.5, "uniform", "input-channel", example_input=torch.randn(1, 2, 7, 7))
    assert mask.held == {}
    assert [int(one.transpose(0, 1).flatten(1).any(1).sum()) for one in mask.values()] == [1, 2]
