"""A network cut from the captured graph, called in the same way as the network it comes from; and its operations."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from torch import Tensor, fx, nn

from prune_search.compact.from_graph import Smaller
from prune_search.pruning.structure.place import name_of
from prune_search.pruning.structure.values import Shape, shapes_of
from prune_search.tasks.batches import named_tensors


class AsCalled(nn.Module):
    """Takes a tensor or `Inputs`, picks the tensors that the graph takes, and gives what it gives.

    Attributes:
        network: takes its input tensors one by one.
        small: what it was made of.
    """

    def __init__(self, small: Smaller) -> None:
        super().__init__()
        self.network = small.network
        self.small: Smaller = small
        self.names: Sequence[str] = tuple(small.captured.inputs)

    def forward(self, inputs: Any) -> Any:
        """The output tensor, or a tuple of them, for inputs [B, …]."""
        given = named_tensors(self, inputs)
        return self.network(*(given[name] for name in self.names))


def graph_flops(small: Smaller) -> float:
    """Multiplications and additions of the weights for one input, 2 per weight and place."""
    inputs: list[Tensor] = list(small.captured.inputs.values())
    shapes = shapes_of(small.network, inputs)
    total = sum(_OPERATIONS[name](node, shapes) for node in shapes if (name := name_of(node)) in _OPERATIONS)
    return 2.0 * total / len(inputs[0])


def _sizes(node: Any, shapes: dict[fx.Node, Shape]) -> tuple[int, ...]:
    found = shapes.get(node)
    return found if isinstance(found, tuple) else ()


def _linear(node: fx.Node, shapes: dict[fx.Node, Shape]) -> int:
    return math.prod(_sizes(node.args[1], shapes)) * math.prod(_sizes(node.args[0], shapes)[:-1])


def _product(node: fx.Node, shapes: dict[fx.Node, Shape]) -> int:
    """Of a matrix product where one factor is a weight."""
    first, second = node.args[-2:]
    if not any(isinstance(one, fx.Node) and one.op == "get_attr" for one in (first, second)):
        return 0
    return math.prod(_sizes(first, shapes)) * _sizes(second, shapes)[-1]


def _convolution(node: fx.Node, shapes: dict[fx.Node, Shape]) -> int:
    weight, output = _sizes(node.args[1], shapes), _sizes(node, shapes)
    return math.prod(weight) * output[0] * math.prod(output[2:])


def _transposed(node: fx.Node, shapes: dict[fx.Node, Shape]) -> int:
    weight, given = _sizes(node.args[1], shapes), _sizes(node.args[0], shapes)
    return math.prod(weight) * given[0] * math.prod(given[2:])


def _recurrent(node: fx.Node, shapes: dict[fx.Node, Shape]) -> int:
    tensors: Any = node.args[2]
    weights = sum(math.prod(_sizes(one, shapes)) for one in tensors if len(_sizes(one, shapes)) == 2)
    return weights * math.prod(_sizes(node.args[0], shapes)[:2])


_OPERATIONS = {
    "linear": _linear,
    **dict.fromkeys(("addmm", "mm", "matmul"), _product),
    **dict.fromkeys(("conv1d", "conv2d", "conv3d"), _convolution),
    **dict.fromkeys(("conv_transpose1d", "conv_transpose2d", "conv_transpose3d"), _transposed),
    **dict.fromkeys(("lstm", "gru", "rnn_tanh", "rnn_relu"), _recurrent),
}
