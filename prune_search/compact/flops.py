"""Counts the theoretical operations of a pruned network from its masks."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from prune_search.pruning.mask.layer_measurements import layer_costs
from prune_search.pruning.mask.mask_set import MaskSet
from prune_search.tasks.network import PRUNABLE, prunable_weights
from prune_search.tasks.passes import eager, evaluating, is_plain, same_draws, twin_of
from prune_search.tasks.structures import mapped, some_examples


def flops(model: nn.Module, example: Any, masks: MaskSet | None = None) -> float:
    """Multiplications and additions of the weights in one forward pass for one input (2 per weight and place).

    Args:
        model: left as it was.
        example: inputs [N, …].
        masks: a removed weight costs nothing, and neither does one whose input channel is always 0 because it, with
            its bias and normalization, was removed; None: the dense network.
    """
    costs = layer_costs(model, example, "flops")
    if masks is None:
        return sum(costs.values())
    live = _live(model, example, masks)
    return sum(cost * float(live[name].float().mean()) for name, cost in costs.items())


def _live(model: nn.Module, example: Any, masks: MaskSet) -> dict[str, Tensor]:
    """Per weight, a bool mask of those that are kept and see an input that is not always 0."""
    probe = _probe(model, masks)
    names = {id(weight): name for name, weight in prunable_weights(probe).items()}
    found = {name: masks[name].cpu() for name in names.values()}
    seen: dict[str, Tensor] = {}

    def note(layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        name = names[id(layer._parameters["weight"])]
        value = inputs[0]
        if not is_plain(layer, value):
            return
        dim = value.dim() - 1 if isinstance(layer, nn.Linear) else 1
        alive = (value != 0).movedim(dim, 0).reshape(value.shape[dim], -1).any(1).cpu()
        alive = _as_weights(layer, alive)
        seen[name] = seen[name] | alive if name in seen else alive

    layers = [m for m in probe.modules() if isinstance(m, PRUNABLE) and id(m._parameters.get("weight")) in names]
    handles = [layer.register_forward_pre_hook(note) for layer in layers]
    try:
        with eager(), evaluating(probe), same_draws(example):
            probe(mapped(some_examples(example, slice(1)), _ones))
    finally:
        for handle in handles:
            handle.remove()
    return {name: mask & seen[name] if name in seen else mask for name, mask in found.items()}


def _ones(tensor: Tensor) -> Tensor:
    """Ones; numbers that are looked up or counted are what they are."""
    return torch.ones_like(tensor, dtype=torch.float64) if tensor.is_floating_point() else tensor


def _as_weights(layer: nn.Module, channels: Tensor) -> Tensor:
    """Which weights of a layer see a channel, from a bool per input channel."""
    weight = layer.get_parameter("weight")
    if getattr(layer, "transposed", False):
        return channels.reshape(-1, *([1] * (weight.dim() - 1))).expand(weight.shape)
    groups = int(getattr(layer, "groups", 1))
    rows = channels.reshape(groups, 1, -1).expand(groups, weight.shape[0] // groups, -1)
    return rows.reshape(weight.shape[0], -1, *([1] * (weight.dim() - 2))).expand(weight.shape)


def _probe(model: nn.Module, masks: MaskSet) -> nn.Module:
    """A copy in which every kept path carries something: positive weights of about 1 / fan-in, plain statistics."""
    probe = twin_of(model).double()
    known = masks.everything
    with torch.no_grad():
        for name, parameter in probe.named_parameters():
            value = torch.ones_like(parameter) / max(1, parameter[0].numel() if parameter.dim() > 1 else 1)
            parameter.copy_(value * known[name].to(value) if name in known else value)
        for name, buffer in probe.named_buffers():
            if buffer.is_floating_point():
                buffer.fill_(0.0 if name.endswith("running_mean") else 1.0)
    return probe
