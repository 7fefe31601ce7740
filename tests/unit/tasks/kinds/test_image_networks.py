"""Networks of timm and torchvision, where a build of them fits this torch."""

from __future__ import annotations

import importlib
import sys
from typing import Any

import pytest
import torch

from prune_search.recipe.axes import MODELS
from prune_search.recipe.problems import UserError
from prune_search.tasks.kinds.image_networks import of_timm, of_torchvision

pytestmark = pytest.mark.slow  # the libraries take seconds to be imported


def needed(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except Exception as error:  # a CUDA build beside a CPU torch raises a RuntimeError
        pytest.skip(f"{name} cannot be imported: {error}")


def test_networks_of_timm_take_images_of_this_size_and_these_channels() -> None:
    needed("timm")
    names = ("resnet18", (1, 16, 16)), ("vit_tiny_patch16_224", (3, 32, 32)), ("resnet18.a1_in1k", (3, 16, 16))
    for name, shape in names:
        model = of_timm(shape, 7, name, False, {})
        assert model(torch.randn(2, *shape)).shape == (2, 7)
    assert of_timm((3, 32, 32), 7, "resnet18", False, {"drop_rate": 0.3}).drop_rate == 0.3
    for name, settings, message in (
        ("resnt18", {}, "timm has no network 'resnt18' .did you mean 'resnet18'"),
        ("resnet18", {"drop": 0.1}, "timm/resnet18 cannot be built: TypeError: .*'drop'"),
    ):
        with pytest.raises(UserError, match=message):
            of_timm((3, 32, 32), 7, name, False, settings)


def test_networks_of_torchvision_take_images_of_three_channels() -> None:
    needed("torchvision")
    assert of_torchvision((3, 32, 32), 7, "resnet18", False, {})(torch.randn(2, 3, 32, 32)).shape == (2, 7)
    for name, shape, message in (
        ("resnet", (3, 32, 32), "torchvision has no classification network 'resnet'"),
        ("fcn_resnet50", (3, 32, 32), "torchvision has no classification network 'fcn_resnet50'"),
        ("resnet18", (1, 32, 32), "torchvision/resnet18 takes images of 3 channels, and these have 1"),
    ):
        with pytest.raises(UserError, match=message):
            of_torchvision(shape, 7, name, False, {})


def test_a_missing_package_and_what_is_no_image_are_said(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("timm", "torchvision"):
        monkeypatch.setitem(sys.modules, name, None)
        entry = MODELS[f"{name}/resnet18"]
        assert entry.facts.trained(pretrained=True)
        assert not entry.facts.trained(pretrained=False)
        with pytest.raises(UserError, match=r"which is not installed: pip install 'prune_search\[vision\]'"):
            entry.make((3, 32, 32), 7, pretrained=False, settings={})
        with pytest.raises(UserError, match=f"{name}/resnet18 needs images"):
            entry.make((64,), 7, pretrained=False, settings={})
