"""Builds the smaller network: every operation with only the channels that are kept."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from prune_search.compact.channel_rules import (
    NodeShapes,
    bias_of,
    foldable,
    groups_of,
    is_depthwise,
    mixes_channels,
    padded_channels,
)
from prune_search.compact.graph import CONSTANT, Described, Description, Node
from prune_search.compact.needed_channels import Channels, Study, kept_channels, study
from prune_search.compact.tracing import described

Tensors = dict[str, Tensor]
MAX_MULTIPLE = 1024
# Beside the masked network's outputs, relative to the largest of them: sums are taken in another order.
TOLERANCE = 1e-5


def compact(model: nn.Module, shape: tuple[int, ...], multiple: int = 1) -> Described:
    """A physically smaller network with the outputs of a masked one.

    Channels go that nothing reads, or that are constants which the bias of whatever reads them can stand for: zeros
    always, other constants where no padding mixes with them. Additions keep what either operand needs, an operand that
    is a constant as a whole becomes that constant. Operations that mix channels in other ways (group normalization,
    softmax, reshaping) keep all of theirs. Nothing is changed where nothing can go.

    Args:
        model: with its masks applied; left as it was. Its outputs are those in evaluation mode.
        shape: of one example.
        multiple: widths are rounded up to a multiple of it.

    Returns:
        On the CPU; outputs differ from the model's by `TOLERANCE` at most, relative to the largest (in float32).

    Raises:
        UndescribedError: the network does something that is not on the list.
    """
    masked = model.cpu() if isinstance(model, Described) else described(model, shape).cpu()
    found = study(masked)
    return cut(found, kept_channels(found, multiple))


def cut(found: Study, kept: Channels) -> Described:
    """The network with some channels only; see `needed_channels.kept_channels`."""
    nodes: list[Node] = []
    tensors: Tensors = {}
    for node in found.nodes:
        changed = node
        own: Tensors = {}
        if node.layer:
            own = _tensors_of(found.model, node)
        if found.links[node.name] is not None:
            changed, own = _CUTS.get(node.op, _as_it_was)(found, node, kept, own)
        if node.name in found.still:
            changed = _with_constant(found, changed, kept, nodes, tensors)
        nodes.append(changed)
        tensors.update({f"{node.layer}.{key}" if key else node.layer: value for key, value in own.items()})
    description = Description(found.model.description.shape, tuple(nodes)).needed()
    with torch.device("meta"):
        small = Described(description)
    wanted = small.state_dict()
    small.load_state_dict({name: tensors[name].clone() for name in wanted}, assign=True)
    return small.requires_grad_(False)


def _tensors_of(model: Described, node: Node) -> Tensors:
    if node.op == CONSTANT:
        return {"": model.get_buffer(node.layer)}
    return dict(model.get_submodule(node.layer).state_dict())


Cut = tuple[Node, Tensors]


def _as_it_was(found: Study, node: Node, kept: Channels, own: Tensors) -> Cut:
    return node, own


def _mixed(found: Study, node: Node, kept: Channels, own: Tensors) -> Cut:
    """A convolution or linear layer: rows of what stays, columns of what is read; constants go into the bias."""
    place = found.places[node.name]
    outputs, inputs = kept[node.name], kept[node.inputs[0]]
    groups = groups_of(node)
    if not mixes_channels(place):
        return node, own
    if is_depthwise(place):
        weight, bias, left = own["weight"][outputs], own.get("bias"), int(inputs.sum())
        bias = None if bias is None else bias[outputs]
    else:
        weight, left = _columns(own["weight"], outputs, inputs, groups)
        added = _added(found, place, inputs)[outputs]
        bias = (bias_of(place.layer)[outputs] + added) if "bias" in own or bool(added.any()) else None  # type: ignore[arg-type]
    options = {**node.options, "bias": bias is not None}
    names = ("in_features", "out_features") if node.op == "Linear" else ("in_channels", "out_channels")
    options.update(zip(names, (int(inputs.sum()), int(outputs.sum())), strict=True))
    if groups > 1:
        options["groups"] = left
    return replace(node, options=options), {"weight": weight, **({} if bias is None else {"bias": bias})}


def _columns(weight: Tensor, outputs: Tensor, inputs: Tensor, groups: int) -> tuple[Tensor, int]:
    """The weights between what stays, and how many groups are left."""
    by_group = inputs.reshape(groups, -1)
    rows = outputs.reshape(groups, -1)
    parts = [
        block[rows[group]][:, by_group[group]]
        for group, block in enumerate(weight.chunk(groups))
        if bool(rows[group].any())
    ]
    return torch.cat(parts), len(parts)


def _added(found: Study, place: NodeShapes, inputs: Tensor) -> Tensor:
    """What the removed inputs that are constants add to every output, [outputs]."""
    name = place.node.inputs[0]
    known = found.known[name]
    gone = foldable(place, known) & ~inputs
    weight = found.model.get_parameter(f"{place.node.layer}.weight").detach()
    groups = groups_of(place.node)
    values = torch.where(gone, known.values, torch.zeros_like(known.values)).to(weight.dtype).reshape(groups, -1)
    sums = weight.reshape(groups, weight.shape[0] // groups, weight.shape[1], -1).double().sum(3)
    return torch.einsum("goi,gi->go", sums, values.double()).reshape(-1).to(weight.dtype)


def _normalized(found: Study, node: Node, kept: Channels, own: Tensors) -> Cut:
    stays = kept[node.name]
    tensors = {key: value if value.dim() == 0 else value[stays] for key, value in own.items()}
    return replace(node, options={**node.options, "num_features": int(stays.sum())}), tensors


def _rectified(found: Study, node: Node, kept: Channels, own: Tensors) -> Cut:
    if node.options["num_parameters"] == 1:
        return node, own
    stays = kept[node.name]
    return replace(node, options={"num_parameters": int(stays.sum())}), {"weight": own["weight"][stays]}


def _padded(found: Study, node: Node, kept: Channels, own: Tensors) -> Cut:
    """Of the channels that a padding adds, those that stay."""
    rank = len(found.places[node.name].inputs[0])
    before, behind = padded_channels(node, rank)
    if not before + behind:
        return node, own
    stays = kept[node.name]
    pad = list(node.options["pad"])
    at = 2 * (rank - 2)
    pad[at : at + 2] = [int(stays[:before].sum()), int(stays[len(stays) - behind :].sum())]
    return replace(node, options={**node.options, "pad": pad}), own


def _reshaped(found: Study, node: Node, kept: Channels, own: Tensors) -> Cut:
    return replace(node, options={"shape": [0, -1]}), own


_CUTS: Mapping[str, Callable[[Study, Node, Channels, Tensors], Cut]] = {
    **dict.fromkeys(("Linear", "Conv1d", "Conv2d", "Conv3d"), _mixed),
    **dict.fromkeys(("BatchNorm1d", "BatchNorm2d", "BatchNorm3d"), _normalized),
    "PReLU": _rectified,
    "pad": _padded,
    "reshape": _reshaped,
}


def _with_constant(found: Study, node: Node, kept: Channels, nodes: list[Node], tensors: Tensors) -> Node:
    """An addition of which one operand is a constant: that constant, or nothing where it is 0."""
    index = found.still[node.name]
    known = found.known[node.inputs[index]]
    stays, shape = kept[node.name], found.places[node.name].output
    other = node.inputs[1 - index]
    if not bool(known.values[stays].any()):
        return replace(node, op="add", inputs=(other,), options={"other": 0})
    sign = -1.0 if node.op == "sub" else 1.0
    layer = f"constants.{node.name}"
    value = sign * known.values[stays].reshape(1, -1, *[1] * (len(shape) - 2))
    options: dict[str, Any] = {"shape": list(value.shape)}
    nodes.append(Node(f"{node.name}c", CONSTANT, (), options, layer))
    tensors[layer] = value
    return replace(node, op="add", inputs=(other, f"{node.name}c"), options={"other": None})


__all__ = ["MAX_MULTIPLE", "TOLERANCE", "compact", "cut"]
