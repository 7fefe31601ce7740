"""Removes from a captured graph what is always 0: branches whose last layer has only zero weights.

A residual block whose weights are all 0 passes on what it is given: an addition of nothing is left out, and with it
all that only it needs.
"""

from __future__ import annotations

import operator
from typing import Any

import torch
from torch import Tensor, fx

from prune_search.pruning.structure.capture import Captured
from prune_search.pruning.structure.place import arguments_of, name_of
from prune_search.pruning.structure.recurrent import drop_unused

# What is 0 where the first operand is.
KEEPS = frozenset(
    (
        *("view", "reshape", "_unsafe_view", "transpose", "permute", "t", "expand", "contiguous", "clone", "alias"),
        *("to", "_to_copy", "type_as", "detach", "unsqueeze", "squeeze", "flatten", "unflatten", "slice", "select"),
        *("dropout", "feature_dropout", "relu", "gelu", "silu", "tanh", "neg", "abs", "leaky_relu", "mish", "sin"),
        *("getitem", "split_with_sizes", "chunk", "split", "div", "mean", "sum", "roll", "pixel_shuffle", "hardswish"),
        *("max_pool2d", "avg_pool2d", "adaptive_avg_pool2d", "narrow", "movedim", "float", "repeat", "lift_fresh_copy"),
    )
)
# Products: 0 where one factor is.
PRODUCTS = frozenset(("mul", "matmul", "bmm", "mm"))
# From the names of arguments: a product that is 0 where either is, and what is added to it.
LAYERS = {
    "linear": ("input", "weight", "bias"),
    "addmm": ("mat1", "mat2", "self"),
    **dict.fromkeys(("conv1d", "conv2d", "conv3d"), ("input", "weight", "bias")),
    **dict.fromkeys(("conv_transpose1d", "conv_transpose2d", "conv_transpose3d"), ("input", "weight", "bias")),
}
# Normalizations with a scale and a shift: 0 where both are.
NORMS = frozenset(("batch_norm", "layer_norm", "group_norm", "instance_norm", "rms_norm"))


class _Zeros:
    """Which nodes of a graph are 0 whatever comes in, found from the first to the last."""

    def __init__(self, captured: Captured) -> None:
        self.captured = captured
        self.found: set[fx.Node] = set()
        for node in captured.graph.graph.nodes:
            if self._is_zero(node):
                self.found.add(node)

    def _is_zero(self, node: fx.Node) -> bool:
        if node.op == "get_attr":
            tensor = operator.attrgetter(str(node.target))(self.captured.graph)
            return isinstance(tensor, Tensor) and tensor.is_floating_point() and not bool(tensor.any())
        if node.op != "call_function":
            return False
        name, arguments = name_of(node), arguments_of(node)
        if name in LAYERS:
            first, second, added = (arguments.get(key) for key in LAYERS[name])
            return (self._has(first) or self._has(second)) and (added is None or self._has(added))
        if name in NORMS:
            bias = arguments.get("bias")
            return self._has(arguments.get("weight")) and (bias is None or self._has(bias))
        if name in PRODUCTS:
            return any(self._has(one) for one in node.args)
        if name == "scaled_dot_product_attention":
            return self._has(arguments.get("value"))
        if name in ("add", "sub"):
            return all(self._has(one) for one in node.args[:2])
        if name == "cat":
            return all(self._has(one) for one in node.args[0])  # type: ignore[union-attr]
        return name in KEEPS and self._has(node.args[0])

    def _has(self, value: Any) -> bool:
        return isinstance(value, fx.Node) and value in self.found


def without_zeros(captured: Captured) -> list[str]:
    """Leave out the additions of what is 0 whatever comes in, and all that only they need.

    Args:
        captured: the network; its graph is changed.

    Returns:
        The names of the parameters that nothing reads any more.
    """
    graph = captured.graph.graph
    before = _targets(graph)
    zeros = _Zeros(captured).found
    changed = False
    for node in list(graph.nodes):
        rest = _other_term(captured, node, zeros)
        if rest is not None:
            node.replace_all_uses_with(rest)
            changed = True
    if not changed:
        return []
    drop_unused(graph)
    captured.graph.recompile()
    left = _targets(graph)
    return [captured.names[target] for target in before if target not in left]


def _other_term(captured: Captured, node: fx.Node, zeros: set[fx.Node]) -> fx.Node | None:
    """The term that is left of an addition of 0; None where it is none, or its shape is another."""
    if node.op != "call_function" or name_of(node) not in ("add", "sub") or node in zeros:
        return None
    terms = [one for one in node.args[:2] if isinstance(one, fx.Node)]
    if len(terms) != 2 or (name_of(node) == "sub" and terms[0] in zeros):
        return None
    rest = [one for one in terms if one not in zeros]
    same = len(rest) == 1 and captured.shapes[rest[0]] == captured.shapes[node]
    return rest[0] if same else None


def _targets(graph: fx.Graph) -> dict[str, None]:
    return {str(node.target): None for node in graph.nodes if node.op == "get_attr"}


def has_removed_places(tensors: dict[str, Tensor]) -> bool:
    """Whether some scale or shift is 0 in some places and not in others, as a mask of a width leaves it."""
    # A channels' scale may have dimensions of size 1 around them.
    vectors = [
        one for one in tensors.values() if isinstance(one, torch.nn.Parameter) and max((0, *one.shape)) == one.numel()
    ]
    counts = [(int((one == 0).sum()), one.numel()) for one in vectors]
    return any(0 < zeros < size for zeros, size in counts)
