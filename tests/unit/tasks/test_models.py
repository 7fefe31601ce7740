"""The registered models: they run on every shape, and are those of the papers."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from prune_search.recipe.axes import MODELS
from prune_search.recipe.problems import UserError
from prune_search.tasks.experts import expert_blocks

SHAPES = [(1, 8, 8), (1, 28, 28), (3, 32, 32)]
PICTURES_ONLY = ["small-conv", "lenet-5", "conv-4", "resnet-20", "resnet-56", "vgg-16-bn"]


def built(name: str, shape: tuple[int, ...], classes: int = 10, **options: object) -> Any:
    entry = MODELS[name]
    return entry.make(shape=shape, classes=classes, **{**{k: o.default for k, o in entry.options.items()}, **options})


def parameters(model: Any) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


@pytest.mark.parametrize("name", sorted(MODELS))
@pytest.mark.parametrize("shape", SHAPES)
def test_every_model_trains_on_every_shape(name: str, shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    model = built(name, shape, classes=7)
    scores = model(torch.randn(3, *shape))
    # A value per class, of models that make pictures at every pixel.
    places = shape[1:] if MODELS[name].facts.pictures else ()
    assert scores.shape == (3, 7, *places)
    labels = torch.tensor([0, 3, 6]).reshape(3, *[1] * len(places)).expand(3, *places)
    torch.autograd.backward(nn.functional.cross_entropy(scores, labels))
    gradients = [parameter.grad for parameter in model.parameters()]
    assert all(gradient is not None and torch.isfinite(gradient).all() for gradient in gradients)


@pytest.mark.parametrize("name", sorted(MODELS))
def test_every_layer_of_a_model_has_a_say(name: str) -> None:
    torch.manual_seed(0)
    model = built(name, (3, 32, 32))
    model(torch.randn(4, 3, 32, 32)).square().sum().backward()
    # Experts that no example chooses have none.
    experts = {one for block in expert_blocks(model)[0] for one in block.parameters}
    others = {key: one for key, one in model.named_parameters() if key not in experts}
    silent = [key for key, one in others.items() if one.grad is None or not one.grad.abs().sum() > 0]
    # A bias before a normalisation would have no say; ours have none there.
    assert silent == []


@pytest.mark.parametrize(
    ("name", "shape", "count"),
    [
        ("lenet-300-100", (1, 28, 28), 784 * 300 + 300 + 300 * 100 + 100 + 100 * 10 + 10),
        ("lenet-300-100", (784,), 266_610),
        ("lenet-5", (1, 28, 28), 61_706),
        ("lenet-5", (1, 32, 32), 61_706),
        ("lenet-5", (1, 8, 8), 61_706),
        ("conv-4", (3, 32, 32), 2_425_930),
        ("resnet-20", (3, 32, 32), 269_722),
        ("resnet-56", (3, 32, 32), 853_018),
        ("mlp", (64,), 64 * 100 + 100 + 100 * 50 + 50 + 50 * 10 + 10),
    ],
)
def test_the_number_of_parameters_is_the_published_one(name: str, shape: tuple[int, ...], count: int) -> None:
    assert parameters(built(name, shape)) == count


def test_vgg_16_has_thirteen_convolutions_of_the_paper_and_two_linear_layers() -> None:
    model = built("vgg-16-bn", (3, 32, 32))
    filters = [module.out_channels for module in model.modules() if isinstance(module, nn.Conv2d)]
    assert filters == [64] * 2 + [128] * 2 + [256] * 3 + [512] * 6
    assert sum(isinstance(module, nn.Linear) for module in model.modules()) == 2
    assert parameters(model) == pytest.approx(1.5e7, rel=0.01)


@pytest.mark.parametrize(("name", "depth"), [("resnet-20", 20), ("resnet-56", 56)])
def test_a_residual_network_has_as_many_layers_as_its_name_says(name: str, depth: int) -> None:
    layers = [module for module in built(name, (3, 32, 32)).modules() if isinstance(module, nn.Conv2d | nn.Linear)]
    assert len(layers) == depth


@pytest.mark.parametrize("name", PICTURES_ONLY)
@pytest.mark.parametrize("shape", [(16,), (8, 8), (2, 3, 8, 8), ()])
def test_a_model_for_pictures_refuses_other_shapes(name: str, shape: tuple[int, ...]) -> None:
    with pytest.raises(UserError, match=f"{name} needs images") as caught:
        built(name, shape)
    assert caught.value.problems[0].path == "task.model"
    assert str(shape) in str(caught.value)


@pytest.mark.parametrize("name", ["small-conv", "conv-4"])
def test_pictures_that_are_too_small_are_refused(name: str) -> None:
    with pytest.raises(UserError, match="at least 4x4, but they are 3x8"):
        built(name, (1, 3, 8))


@pytest.mark.parametrize("name", PICTURES_ONLY)
@pytest.mark.parametrize("shape", [(2, 9, 21), (4, 40, 33)])
def test_pictures_need_not_be_square_nor_of_a_usual_size(name: str, shape: tuple[int, ...]) -> None:
    assert built(name, shape)(torch.zeros(2, *shape)).shape == (2, 10)


def test_mlp_has_the_hidden_layers_that_are_asked_for() -> None:
    model = built("mlp", (12,), classes=2, hidden=[7, 6, 5])
    assert [(m.in_features, m.out_features) for m in model.modules() if isinstance(m, nn.Linear)] == [
        (12, 7),
        (7, 6),
        (6, 5),
        (5, 2),
    ]
    assert isinstance(list(model.children())[-1], nn.Linear)


def test_small_conv_has_the_channels_that_are_asked_for() -> None:
    model = built("small-conv", (1, 8, 8), channels=[3, 5])
    assert [m.out_channels for m in model.modules() if isinstance(m, nn.Conv2d)] == [3, 5]


def test_lenet_5_pads_a_picture_in_the_middle_of_its_field() -> None:
    field = built("lenet-5", (1, 28, 28)).field
    padded: Tensor = field(torch.ones(1, 1, 28, 28))
    assert padded.shape == (1, 1, 32, 32)
    assert padded[0, 0, 2:30, 2:30].min() == 1
    assert padded.sum() == 28 * 28
