"""The networks of timm and torchvision, each a family."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from prune_search.recipe.axes import MODELS
from prune_search.recipe.facts import Model
from prune_search.recipe.fields import Flag, Settings
from prune_search.recipe.registry import Option
from prune_search.tasks.models.shapes import picture

if TYPE_CHECKING:
    from torch import nn


def _pretrained(*, pretrained: bool = False, **options: object) -> bool:
    return pretrained


OPTIONS = {
    "pretrained": Option(
        Flag(), False, "pretrained weights, which the package has or downloads; with a new head for the data's classes"
    ),
    "settings": Option(Settings(), {}, "further keywords of the package's function, such as drop_path_rate"),
}


@MODELS.register(
    "timm",
    member="NAME",
    summary="a network of timm, such as timm/resnet18; images",
    source="Wightman 2019, github.com/huggingface/pytorch-image-models",
    options=OPTIONS,
    facts=Model(trained=_pretrained),
)
def timm_network(
    shape: tuple[int, ...], classes: int, *, pretrained: bool, settings: Mapping[str, Any], member: str
) -> nn.Module:
    """A network of timm for images of this size and number of channels.

    Args:
        shape: (channels, height, width) of one example.
        classes: number of outputs.
        pretrained: whether it has its trained weights; the first layer is fitted to the channels and the head is drawn.
        settings: further keywords of ``timm.create_model``.
        member: its name in timm.

    Raises:
        UserError: timm is missing, or has no such network, or it does not take these images.
    """
    from prune_search.tasks.kinds.image_networks import of_timm

    return of_timm(picture(f"timm/{member}", shape), classes, member, pretrained, settings)


@MODELS.register(
    "torchvision",
    member="NAME",
    summary="a classification network of torchvision, such as torchvision/resnet18; images",
    source="torchvision.models",
    options=OPTIONS,
    facts=Model(trained=_pretrained),
)
def torchvision_network(
    shape: tuple[int, ...], classes: int, *, pretrained: bool, settings: Mapping[str, Any], member: str
) -> nn.Module:
    """A network of torchvision for images of three channels.

    Args:
        shape: (channels, height, width) of one example.
        classes: number of outputs.
        pretrained: whether it has the weights that torchvision calls DEFAULT, but for a head of another size.
        settings: further keywords of ``torchvision.models.get_model``.
        member: its name in torchvision.

    Raises:
        UserError: torchvision is missing, or has no such network, or it does not take these images.
    """
    from prune_search.tasks.kinds.image_networks import of_torchvision

    return of_torchvision(picture(f"torchvision/{member}", shape), classes, member, pretrained, settings)
