"""Builds networks of timm and torchvision."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from torch import nn

from prune_search.recipe.problems import UserError, shown, suggestion
from prune_search.tasks.kinds.packages import package, said
from prune_search.tasks.kinds.paths import few, wrong

KEY = "task.model"
_log = logging.getLogger("prune_search")


def of_timm(
    shape: tuple[int, int, int], classes: int, name: str, pretrained: bool, settings: Mapping[str, Any]
) -> nn.Module:
    """A network of timm; see `prune_search.tasks.models.image_zoos`."""
    timm = package("timm", f"timm/{name}", KEY)
    if not timm.is_model(name.partition(".")[0]):
        raise wrong(KEY, f"timm has no network {shown(name)}{suggestion(name, timm.list_models())}")
    channels, height, width = shape
    given = {"num_classes": classes, "in_chans": channels, **settings}
    known = timm.models.get_pretrained_cfg(name, allow_unregistered=True)
    if known is not None and known.fixed_input_size and tuple(known.input_size[1:]) != (height, width):
        # Those that learn a position of each patch are made for a size.
        given.setdefault("img_size", (height, width))
    return _made(f"timm/{name}", lambda: timm.create_model(name, pretrained=pretrained, **given))


def of_torchvision(
    shape: tuple[int, int, int], classes: int, name: str, pretrained: bool, settings: Mapping[str, Any]
) -> nn.Module:
    """A network of torchvision; see `prune_search.tasks.models.image_zoos`."""
    models = package("torchvision.models", f"torchvision/{name}", KEY)
    names = models.list_models(module=models)
    if name not in names:
        raise wrong(KEY, f"torchvision has no classification network {shown(name)}{suggestion(name, names)}")
    if shape[0] != 3:
        raise wrong(KEY, f"torchvision/{name} takes images of 3 channels, and these have {shape[0]}")
    made = _made(f"torchvision/{name}", lambda: models.get_model(name, weights=None, num_classes=classes, **settings))
    if pretrained:
        trained = _made(f"torchvision/{name}", lambda: models.get_model(name, weights="DEFAULT"))
        _take_what_fits(made, trained, f"torchvision/{name}")
    return made


def _take_what_fits(made: nn.Module, trained: nn.Module, name: str) -> None:
    """Copy the weights and buffers of the same name and shape; the others, which are said, stay as they were drawn."""
    own, given = made.state_dict(), trained.state_dict()
    fitting = {key: tensor for key, tensor in given.items() if key in own and own[key].shape == tensor.shape}
    made.load_state_dict(fitting, strict=False)
    if drawn := [key for key in own if key not in fitting]:
        _log.warning("%s: not among the trained weights, so drawn at random: %s", name, few(drawn))


def _made(name: str, make: Any) -> nn.Module:
    try:
        network = make()
    except UserError:
        raise
    except Exception as error:  # whatever the package raises of its keywords, of a download, of a size
        raise wrong(KEY, f"{name} cannot be built: {said(error)}") from error
    if not isinstance(network, nn.Module):
        raise wrong(KEY, f"{name} is a {type(network).__name__}, not a torch.nn.Module")
    return network.train()
