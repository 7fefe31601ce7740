"""What each output of a layer sees of its input."""

from __future__ import annotations

import torch
from torch import nn

from prune_search.tasks.patches import patches


def test_a_weight_times_the_patches_is_the_layers_output() -> None:
    torch.manual_seed(0)
    layer, x = nn.Conv2d(4, 6, (3, 2), stride=(1, 2), padding=1, dilation=(2, 1), groups=2, bias=False), None
    x = torch.randn(2, 4, 7, 8)
    seen = patches(layer, x)
    assert seen is not None
    made = torch.einsum("ngpk,gok->ngop", seen, layer.weight.reshape(2, 3, -1))
    assert torch.allclose(made.reshape(layer(x).shape), layer(x), atol=1e-5)


def test_a_transposed_convolution_has_none() -> None:
    assert patches(nn.ConvTranspose2d(1, 1, 3), torch.zeros(1, 1, 3, 3)) is None
