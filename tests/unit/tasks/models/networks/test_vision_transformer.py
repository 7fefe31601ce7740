"""The small vision transformer: its shapes, and that every part of it counts."""

from __future__ import annotations

import pytest
import torch

from prune_search.recipe.axes import MODELS
from prune_search.recipe.problems import UserError
from prune_search.tasks.models.networks.vision_transformer import VisionTransformer

SIZES = {"patch": 4, "width": 8, "depth": 2, "heads": 2, "hidden": 12}


def test_pictures_become_logits_and_every_parameter_has_a_gradient() -> None:
    torch.manual_seed(0)
    model = MODELS["small-vit"].make((1, 8, 8), 3, **SIZES)
    assert isinstance(model, VisionTransformer)
    outputs = model(torch.randn(5, 1, 8, 8))
    assert outputs.shape == (5, 3)
    found = torch.autograd.grad(outputs.square().sum(), list(model.parameters()))
    # The softmax leaves out what all keys have in common, as their bias is.
    silent = [name for (name, _), one in zip(model.named_parameters(), found, strict=True) if one.abs().max() < 1e-6]
    assert silent == ["blocks.0.key.bias", "blocks.1.key.bias"]


def test_sizes_that_do_not_go_together_are_refused_at_once() -> None:
    with pytest.raises(UserError) as error:
        MODELS["small-vit"].make((1, 9, 8), 3, **{**SIZES, "heads": 3})
    assert [one.path for one in error.value.problems] == ["task.model.patch", "task.model.heads"]
