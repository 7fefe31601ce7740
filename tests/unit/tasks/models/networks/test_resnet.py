"""Residual networks: what their shortcuts add, what a branch is scaled by, and how wide they are."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import nn

from prune_search.recipe.axes import MODELS


def built(name: str, shape: tuple[int, ...], classes: int = 10, **options: object) -> Any:
    entry = MODELS[name]
    return entry.make(shape=shape, classes=classes, **{**{k: o.default for k, o in entry.options.items()}, **options})


def parameters(model: Any) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def test_a_residual_block_adds_its_input_and_the_zero_padding_has_no_parameters() -> None:
    model = built("resnet-20", (3, 32, 32)).eval()
    block = model.stage2[0]
    for parameter in block.bn2.parameters():
        nn.init.zeros_(parameter)
    x = torch.rand(1, 16, 8, 8)
    out = block(x)
    assert torch.equal(out[:, :16], x[:, :, ::2, ::2])
    assert torch.equal(out[:, 16:], torch.zeros(1, 16, 4, 4))
    assert not list(block.shortcut.parameters())


def test_the_projection_shortcut_is_a_convolution_at_each_change_of_shape() -> None:
    plain, projected = built("resnet-20", (3, 32, 32)), built("resnet-20", (3, 32, 32), shortcut="projection")
    convolutions = 16 * 32 + 32 * 64
    normalisations = 2 * 32 + 2 * 64
    assert parameters(projected) - parameters(plain) == convolutions + normalisations


def test_the_residual_branches_are_scaled_by_depth_on_request() -> None:
    scaled = built("resnet-56", (3, 32, 32), residual_scale="inverse-sqrt-depth")
    scales = [module.scale for module in scaled.modules() if hasattr(module, "scale")]
    assert scales == pytest.approx([1 / math.sqrt(27)] * 27)
    block = scaled.stage1[0].eval()
    x = torch.rand(1, 16, 8, 8)
    one = built("resnet-56", (3, 32, 32)).stage1[0].eval()
    one.load_state_dict(block.state_dict())
    # Where the sum stays positive the ReLU is the identity, and the branch is what is left over.
    full, part = one(x) - x, block(x) - x
    positive = (one(x) > 0) & (block(x) > 0)
    assert positive.any()
    assert torch.allclose(part[positive], full[positive] / math.sqrt(27), atol=1e-5)


def test_the_width_of_a_residual_network_can_be_halved() -> None:
    model = built("resnet-20", (3, 32, 32), width=8)
    assert model.fc.in_features == 32
    assert model(torch.zeros(2, 3, 32, 32)).shape == (2, 10)
