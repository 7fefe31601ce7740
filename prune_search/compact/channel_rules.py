"""How each operation treats channels: which outputs are constant, and which inputs they depend on.

A rule is asked about a *place*, a node with the shapes around it. Channels are dimension 1 of [N, C, …].
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from prune_search.compact.graph import Node
from prune_search.compact.operations import FUNCTIONS


@dataclass(frozen=True, eq=False)
class Known:
    """What is known of the channels of a tensor, whatever the input.

    Attributes:
        is_known: bool [C]: the channel is one constant at every place.
        values: [C], the constants; 0 elsewhere.
    """

    is_known: Tensor
    values: Tensor

    @classmethod
    def nothing(cls, channels: int) -> Known:
        """Of no channel."""
        return cls(torch.zeros(channels, dtype=torch.bool), torch.zeros(channels))

    @classmethod
    def of(cls, is_known: Tensor, values: Tensor) -> Known:
        """Constants `values` [channels] where `is_known` [channels] is True; non-finite values count as unknown."""
        fine = is_known & values.isfinite()
        return cls(fine, torch.where(fine, values, torch.zeros_like(values)))

    def zeros(self) -> Tensor:
        """The channels that are 0, bool [C]."""
        return self.is_known & (self.values == 0)


@dataclass(frozen=True, eq=False)
class NodeShapes:
    """A node and what is around it.

    Attributes:
        node: the operation.
        layer: with its tensors, or None.
        inputs: the shapes of its inputs.
        output: the shape of its output.
    """

    node: Node
    layer: nn.Module | None
    inputs: tuple[tuple[int, ...], ...]
    output: tuple[int, ...]


# Per input, which of its channels each output channel stands for, [C of the output], -1 for none; None: nothing is
# known, so that all channels of inputs and output are kept.
Links = list[Tensor] | None


@dataclass(frozen=True)
class Rule:
    """How an operation treats channels.

    Attributes:
        links: see `Links`.
        known: what is known of the output.
        mixes: every output channel is made of several input channels, by weights.
    """

    links: Callable[[NodeShapes], Links]
    known: Callable[[NodeShapes, Sequence[Known]], Known]
    mixes: bool = False


def has_channels(shape: tuple[int, ...]) -> bool:
    """Whether dimension 1 is of channels."""
    return len(shape) >= 2


def _straight(place: NodeShapes) -> Links:
    """Output channel c is input channel c, of every input."""
    channels = place.output[1]
    if any(not has_channels(shape) or shape[1] != channels for shape in place.inputs):
        return None
    if len({len(shape) for shape in (*place.inputs, place.output)}) > 1 and place.node.op in _OF_TWO:
        return None  # operands of other ranks are aligned from the right
    return [torch.arange(channels) for _ in place.inputs]


def _computed(place: NodeShapes, known: Sequence[Known]) -> Known:
    """A function of single values, or a normalization, on constants."""
    values = [item.values.reshape(1, -1, *[1] * (len(place.inputs[0]) - 2)) for item in known]
    run = FUNCTIONS[place.node.op].run if place.layer is None else None
    with torch.no_grad():
        if run is not None:
            out = run(values, **place.node.options)
        else:
            layer: Any = place.layer
            types = [tensor.dtype for tensor in layer.state_dict().values() if tensor.is_floating_point()]
            out = layer(values[0].to(types[0]) if types else values[0])
    all_known = torch.stack([item.is_known for item in known]).all(0)
    result = out.reshape(-1).float()
    if place.node.op == "mul" and len(known) == 2:
        # Whatever it is multiplied by; what is no finite number would be lost in the network too.
        zero = known[0].zeros() | known[1].zeros()
        all_known, result = all_known | zero, torch.where(zero, torch.zeros_like(result), result)
    return Known.of(all_known, result)


def _unchanged(place: NodeShapes, known: Sequence[Known]) -> Known:
    return known[0]


def _only_zeros(place: NodeShapes, known: Sequence[Known]) -> Known:
    """Zeros come in at the borders."""
    return Known.of(known[0].zeros(), torch.zeros_like(known[0].values))


def _nothing(place: NodeShapes, known: Sequence[Known]) -> Known:
    return Known.nothing(place.output[1] if has_channels(place.output) else 1)


def _unlinked(place: NodeShapes) -> Links:
    return None


def _normalization_links(place: NodeShapes) -> Links:
    """Per channel, where the statistics are stored and not the batch's."""
    return _straight(place) if place.node.options["track_running_stats"] else None


def _normalized(place: NodeShapes, known: Sequence[Known]) -> Known:
    return _computed(place, known) if place.node.options["track_running_stats"] else _nothing(place, known)


def _average_links(place: NodeShapes) -> Links:
    return _straight(place)


def _averaged(place: NodeShapes, known: Sequence[Known]) -> Known:
    options = place.node.options
    plain = _all_zero(options["padding"]) and not options["ceil_mode"] and options["divisor_override"] is None
    return known[0] if plain or not options["count_include_pad"] else _only_zeros(place, known)


def _all_zero(value: Any) -> bool:
    return all(item == 0 for item in value) if isinstance(value, list) else value == 0


def _mean_links(place: NodeShapes) -> Links:
    rank = len(place.inputs[0])
    dims = {dim % rank for dim in place.node.options["dim"]}
    return _straight(place) if dims and min(dims) >= 2 and has_channels(place.output) else None


def _flatten_links(place: NodeShapes) -> Links:
    """[N, C, …] to [N, C·…]: channel c becomes a run of features."""
    (shape,), output = place.inputs, place.output
    if len(shape) < 2 or len(output) != 2 or output[0] != shape[0] or output[1] != math.prod(shape[1:]):
        return None
    return [torch.arange(shape[1]).repeat_interleave(math.prod(shape[2:]))]


def _spread(place: NodeShapes, known: Sequence[Known]) -> Known:
    links = _flatten_links(place)
    if links is None:
        return _nothing(place, known)
    return Known(known[0].is_known[links[0]], known[0].values[links[0]])


def _take_links(place: NodeShapes) -> Links:
    """Slices of the places of the picture; batch and channels whole."""
    places = place.node.options["places"]
    whole = all(item in ([None, None, None], [None, None, 1]) for item in places[:2])
    return _straight(place) if whole and all(isinstance(item, list) for item in places) else None


def _joined_links(place: NodeShapes) -> Links:
    if place.node.options["dim"] not in (1, 1 - len(place.output)):
        return None
    links, first = [], 0
    for shape in place.inputs:
        link = torch.full((place.output[1],), -1)
        link[first : first + shape[1]] = torch.arange(shape[1])
        links.append(link)
        first += shape[1]
    return links


def _joined(place: NodeShapes, known: Sequence[Known]) -> Known:
    if _joined_links(place) is None:
        return _nothing(place, known)
    return Known(torch.cat([item.is_known for item in known]), torch.cat([item.values for item in known]))


def padded_channels(node: Node, rank: int) -> tuple[int, int]:
    """How many channels a padding puts before and behind the others."""
    pad = node.options["pad"]
    at = 2 * (rank - 2)
    return (pad[at], pad[at + 1]) if len(pad) > at + 1 else (0, 0)


def _pad_links(place: NodeShapes) -> Links:
    rank, node = len(place.inputs[0]), place.node
    before, behind = padded_channels(node, rank)
    batch = node.options["pad"][2 * (rank - 1) :]
    if min(before, behind) < 0 or any(batch) or (node.options["mode"] != "constant" and before + behind):
        return None
    inside = torch.arange(place.inputs[0][1])
    return [torch.cat([torch.full((before,), -1), inside, torch.full((behind,), -1)])]


def _padded(place: NodeShapes, known: Sequence[Known]) -> Known:
    links, options = _pad_links(place), place.node.options
    if links is None:
        return _nothing(place, known)
    value = float(options["value"] or 0.0)
    inside = any(options["pad"][: 2 * (len(place.inputs[0]) - 2)])
    fine = known[0].is_known
    if inside and options["mode"] == "constant":
        fine = fine & (known[0].values == value)
    added = links[0] < 0
    picked = links[0].clamp_min(0)
    return Known.of(added | fine[picked], torch.where(added, torch.tensor(value), known[0].values[picked]))


def weights_by_output(layer: nn.Module) -> Tensor:
    """The weight of a convolution or linear layer as [outputs, inputs of a group, places of the kernel]."""
    weight = layer.get_parameter("weight").detach()
    return weight.reshape(weight.shape[0], weight.shape[1], -1)


def bias_of(layer: nn.Module) -> Tensor:
    """The bias, or zeros, [outputs]."""
    weight, bias = layer.get_parameter("weight"), layer.bias
    return bias.detach() if isinstance(bias, Tensor) else weight.new_zeros(weight.shape[0])


def pads(node: Node) -> bool:
    """Whether zeros come in at the borders, so that a constant picture does not give a constant one."""
    options = node.options
    if node.op == "Linear" or options["padding"] == "valid" or options["padding_mode"] != "zeros":
        return False
    kernel = options["kernel_size"]
    if options["padding"] == "same":
        return any(side != 1 for side in (kernel if isinstance(kernel, list) else [kernel]))
    return not _all_zero(options["padding"])


def foldable(place: NodeShapes, known: Known) -> Tensor:
    """Inputs of a convolution or linear layer that its bias can stand for, bool [inputs]."""
    return known.zeros() if pads(place.node) else known.is_known


def groups_of(node: Node) -> int:
    """Groups of a convolution; 1 for a linear layer."""
    return int(node.options.get("groups", 1))


def _mixed(place: NodeShapes, known: Sequence[Known]) -> Known:
    """Constant where every weight is 0, or reads a constant."""
    if place.layer is None or not mixes_channels(place):
        return _nothing(place, known)
    weight = weights_by_output(place.layer)
    outputs, inputs, _ = weight.shape
    groups = groups_of(place.node)
    # The inputs that each output reads, [outputs, inputs of a group].
    reads = torch.arange(groups * inputs).reshape(groups, inputs).repeat_interleave(outputs // groups, 0)
    still = foldable(place, known[0])[reads]
    sums = weight.sum(2)
    is_known = ((weight == 0).all(2) | still).all(1)
    values = bias_of(place.layer) + (sums * torch.where(still, known[0].values[reads], 0.0)).sum(1)
    return Known.of(is_known, values.float())


def mixes_channels(place: NodeShapes) -> bool:
    """Whether dimension 1 is what the layer mixes; of [N, T, C] a linear layer mixes the last."""
    return place.node.op != "Linear" or len(place.inputs[0]) == 2


def is_depthwise(place: NodeShapes) -> bool:
    """One input channel per group."""
    groups = groups_of(place.node)
    return groups > 1 and groups == place.inputs[0][1]


def _mixed_links(place: NodeShapes) -> Links:
    """Of a depthwise convolution each output stands for an input; others mix."""
    if not mixes_channels(place):
        return None
    if is_depthwise(place):
        outputs = place.output[1]
        return [torch.arange(outputs) // (outputs // place.inputs[0][1])]
    return []


_OF_TWO = frozenset(("add", "sub", "mul", "div"))
_EACH_VALUE = (
    *("relu", "relu6", "silu", "sigmoid", "tanh", "hardswish", "hardsigmoid", "leaky_relu", "elu", "gelu"),
    *_OF_TWO,
    "PReLU",
)
_MIXING = Rule(_mixed_links, _mixed, mixes=True)
UNKNOWN = Rule(_unlinked, _nothing)
RULES: Mapping[str, Rule] = {
    **dict.fromkeys(_EACH_VALUE, Rule(_straight, _computed)),
    **dict.fromkeys(("Linear", "Conv1d", "Conv2d", "Conv3d"), _MIXING),
    **dict.fromkeys(("BatchNorm1d", "BatchNorm2d", "BatchNorm3d"), Rule(_normalization_links, _normalized)),
    **dict.fromkeys(
        ("max_pool1d", "max_pool2d", "adaptive_avg_pool1d", "adaptive_avg_pool2d", "upsample"),
        Rule(_straight, _unchanged),
    ),
    "avg_pool2d": Rule(_average_links, _averaged),
    "mean": Rule(_mean_links, _unchanged),
    "flatten": Rule(_flatten_links, _spread),
    "reshape": Rule(_flatten_links, _spread),
    "take": Rule(_take_links, _unchanged),
    "cat": Rule(_joined_links, _joined),
    "pad": Rule(_pad_links, _padded),
}
