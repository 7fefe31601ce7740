"""Generates the source code that builds a network, for the model card."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from prune_search.recipe import axes
from prune_search.recipe.blocks import UserCode
from prune_search.recipe.recipe import Recipe
from prune_search.tasks.fusion import is_record, restructured

# Layers whose repr is the call that makes them.
SPEAKING = (
    nn.AdaptiveAvgPool2d,
    nn.BatchNorm1d,
    nn.BatchNorm2d,
    nn.Conv2d,
    nn.Dropout,
    nn.Flatten,
    nn.Identity,
    nn.Linear,
    nn.MaxPool2d,
    nn.ReLU,
    nn.ZeroPad2d,
)


def plain_torch(model: nn.Module) -> str | None:
    """The expression that builds a network with torch alone, or None where it has layers of its own.

    Args:
        model: a sequence of torch's own layers, named; anything else gives None.

    Example:
        >>> print(plain_torch(nn.Sequential(nn.Flatten(), nn.Linear(4, 2))))
        nn.Sequential(
            OrderedDict(
                [
                    ("0", nn.Flatten(start_dim=1, end_dim=-1)),
                    ("1", nn.Linear(in_features=4, out_features=2, bias=True)),
                ]
            )
        )
    """
    if type(model) is not nn.Sequential or any(type(layer) not in SPEAKING for layer in model):
        return None
    layers = [f'            ("{name}", nn.{layer!r}),' for name, layer in model.named_children()]
    return "\n".join(["nn.Sequential(", "    OrderedDict(", "        [", *layers, "        ]", "    )", ")"])


def loading_code(recipe: Recipe, tensors: Mapping[str, Tensor] | None = None, experts: bool = False) -> str:
    """Python that loads an exported network from the current folder: in plain torch wherever that can be said.

    Args:
        recipe: of the network.
        tensors: of its state dict, which say which layers were fused; None: none were.
        experts: whether experts were removed, so that routers have to leave them out.
    """
    head = ["from safetensors.torch import load_file"]
    named = recipe.task.model
    model = _registered(recipe)
    fused = sorted(filter(is_record, tensors or {}))
    if model is not None and tensors and fused:
        restructured(model, tensors)
    expression = None if model is None else plain_torch(model)
    if expression is not None:
        lines = ["from collections import OrderedDict", "", *head, "from torch import nn", "", f"model = {expression}"]
    elif isinstance(named, UserCode):
        module, _, factory = named.name.partition(":")
        first = factory.split(".")[0]
        lines = [
            *head,
            "",
            f"from {module} import {first}",
            "",
            f"model = {factory}(...)  # build it with your own code",
        ]
    else:
        given = ", ".join([*_shape_of(recipe), *(f"{key}={value!r}" for key, value in named.options.items())])
        own = "from prune_search.recipe.axes import MODELS  # its layers are defined there"
        lines = [own, *head, "", f"model = MODELS[{named.name!r}].make({given})"]
    if fused and expression is None:
        lines.insert(0, "from prune_search.tasks.fusion import restructured  # layers of it were fused")
    load = ['model.load_state_dict(load_file("model.safetensors"))']
    if fused:
        load = [
            'weights = load_file("model.safetensors")',
            *(f"del weights[{name!r}]  # which layers this one stands for" for name in fused if expression is not None),
            *(["restructured(model, weights)"] if expression is None else []),
            "model.load_state_dict(weights)",
        ]
    lines += [
        *load,
        "model.eval()",
        'masks = load_file("masks.safetensors")  # True where a weight is kept; elsewhere it is exactly 0',
    ]
    if experts:
        lines.insert(0, "from prune_search.tasks.experts import close_routes  # experts of it were removed")
        lines += ["close_routes(model, masks)  # else routers go on choosing removed experts, which are zeros"]
    return "\n".join(lines)


def _shape_of(recipe: Recipe) -> tuple[str, ...]:
    facts = recipe.task.source
    return (repr(tuple(facts.shape)), repr(facts.classes)) if facts.shape else ("...",)


def _registered(recipe: Recipe) -> nn.Module | None:
    """The registered model; None for a user's own, and where the data set's shape is not known."""
    named, facts = recipe.task.model, recipe.task.source
    if isinstance(named, UserCode) or not facts.shape:
        return None
    with torch.random.fork_rng(devices=[]):  # what a factory draws moves nobody's random numbers
        model: nn.Module = named.entry(axes.MODELS).make(tuple(facts.shape), facts.classes, **named.options)
    return model
