"""Parameter groups of an optimizer: which parameters decay, and how fast each layer learns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from prune_search.tasks.passes import evaluating, same_draws
from prune_search.training.optimizers import SCALE

Group = dict[str, Any]


def parameter_groups(
    parameters: Sequence[nn.Parameter], decay_norms: bool = True, factors: Mapping[nn.Parameter, float] | None = None
) -> list[nn.Parameter] | list[Group]:
    """What an optimizer is made with.

    Args:
        parameters: in their order.
        decay_norms: whether weight decay acts on parameters of one dimension: biases, and scales and shifts of norms.
        factors: of the learning rate, by parameter; None: 1 for all.

    Returns:
        The parameters themselves where they are all treated alike. Else groups in the order of their first parameter:
        ``weight_decay`` is 0 in those that do not decay, and ``scale`` is the factor of the learning rate.
    """
    if decay_norms and factors is None:
        return list(parameters)
    groups: dict[tuple[float, bool], Group] = {}
    for parameter in parameters:
        factor = 1.0 if factors is None else factors[parameter]
        decays = decay_norms or parameter.ndim > 1
        if (factor, decays) not in groups:
            groups[factor, decays] = {"params": [], SCALE: factor, **({} if decays else {"weight_decay": 0.0})}
        groups[factor, decays]["params"].append(parameter)
    return list(groups.values())


def with_strengths(
    groups: Sequence[nn.Parameter] | Sequence[Group], strengths: Mapping[nn.Parameter, float]
) -> list[Group]:
    """The groups, split so that each parameter has a weight decay of its own: ``weight_decay: from-prior``.

    With prior variances v and N training examples, ``weight_decay`` 1 / (v N) makes the minimum of the mean loss plus
    weight_decay ‖w‖² / 2 the most probable network: N times both is the negative log-posterior, Σ w² / 2v the prior's
    part. v is σ_w² / fan-in for weights, σ_b² for biases; where σ² is inverse-gamma distributed, 1 / v is its mean.
    Training towards that point with one strength per layer is an adaptation of 2011.12829, which samples the posterior.

    Args:
        groups: as `parameter_groups` makes them; a weight decay of 0 there (``decay_norms: false``) stays.
        strengths: the weight decay of parameters that have a prior; 0 for all others, which have none.
    """
    found: list[Group] = []
    for item in groups:
        group: Group = item if isinstance(item, dict) else {"params": [item]}
        split: dict[float, list[nn.Parameter]] = {}
        for parameter in group["params"]:
            strength = float(group.get("weight_decay", strengths.get(parameter, 0.0)))
            split.setdefault(strength, []).append(parameter)
        found += [{**group, "params": chosen, "weight_decay": strength} for strength, chosen in split.items()]
    return found


def layer_factors(model: nn.Module, example: Any, decay: float) -> dict[nn.Parameter, float]:
    """The factor of every parameter's learning rate: ``decay ** depth``, with depth 0 for the last layer.

    A layer is a module with parameters of its own; where a network is a list of alike blocks (of one class, in an
    `nn.Sequential` or `nn.ModuleList`), a block is one layer. Norms, and whatever has parameters of one dimension only,
    belong to the layer before them. The layers are counted in the order in which a forward pass calls them first, from
    the last one back.

    Args:
        model: left as it was: mode, weights and hooks.
        example: a batch of inputs [N, ...].
        decay: above 0, at most 1.

    Source:
        Howard, Ruder 2018, Universal Language Model Fine-tuning for Text Classification, 1801.06146, section 3.2;
        Clark et al. 2020, ELECTRA, 2003.10555, appendix B.

    Example:
        Three linear layers and decay 0.5: 0.25, 0.5 and 1.
    """
    layers: dict[str, list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        layers.setdefault(_layer_of(model, name.rpartition(".")[0]), []).append(parameter)
    called = _order_of_calls(model, example)
    order = sorted(layers, key=lambda name: called[_nearest(name, called)])
    depths: list[list[nn.Parameter]] = []
    for name in order:
        if depths and all(parameter.ndim <= 1 for parameter in layers[name]):
            depths[-1] += layers[name]
        else:
            depths.append(list(layers[name]))
    return {parameter: decay ** (len(depths) - 1 - place) for place, layer in enumerate(depths) for parameter in layer}


def _layer_of(model: nn.Module, owner: str) -> str:
    """The name of the layer that a module's own parameters belong to."""
    parts = owner.split(".") if owner else []
    module = model
    for place, part in enumerate(parts):
        inner = module.get_submodule(part)
        siblings = module.children() if isinstance(module, nn.Sequential | nn.ModuleList) else iter(())
        if sum(type(one) is type(inner) for one in siblings) > 1:
            return ".".join(parts[: place + 1])
        module = inner
    return owner


def _nearest(name: str, called: Mapping[str, int]) -> str:
    """The module itself where it is called, else the innermost one around it that is: its weight is used there."""
    while name not in called:
        name = name.rpartition(".")[0]
    return name


def _order_of_calls(model: nn.Module, example: Any) -> dict[str, int]:
    """When a forward pass calls each module first; the network itself comes first."""
    order: dict[str, int] = {"": 0}
    handles = [
        module.register_forward_pre_hook(lambda *_, name=name: order.setdefault(name, len(order)) and None)
        for name, module in model.named_modules()
        if name
    ]
    try:
        with torch.no_grad(), evaluating(model), same_draws(example):
            model(example)
    finally:
        for handle in handles:
            handle.remove()
    return order
