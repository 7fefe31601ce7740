"""Statistics over a dimension that was cut: they still count the removed entries, as zeros.

A masked network's normalization counts removed places as zeros. So does the cut one: with k of n places left, a mean
over what is left is multiplied by k/n. For RMS norm and for means that is all; of layer norm the variance over n places
is k/n · (v + m² · (1 - k/n)), where m and v are the mean and the variance over the k.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, fx

from prune_search.pruning.structure.place import arguments_of, name_of

aten = torch.ops.aten


def count_zeros(graph: fx.Graph, node: fx.Node, share: float) -> None:
    """Rewrites a normalization or mean so that it counts what was cut out, as zeros.

    Args:
        graph: that the node is in.
        node: of which the input is cut already.
        share: k/n, the share of the places that are left.
    """
    with graph.inserting_after(node):
        made = _REWRITES[name_of(node)](graph, node, arguments_of(node), share)
    if made is not node:
        node.replace_all_uses_with(made)
        graph.erase_node(node)


class _After:
    """Operations that are appended one after the other behind a node."""

    def __init__(self, graph: fx.Graph, node: fx.Node) -> None:
        self.graph, self.last = graph, node

    def call(self, operation: Any, *args: Any, **kwargs: Any) -> fx.Node:
        with self.graph.inserting_after(self.last):
            self.last = self.graph.call_function(operation, args, kwargs)
        return self.last


def _mean(graph: fx.Graph, node: fx.Node, arguments: Mapping[str, Any], share: float) -> fx.Node:
    users = list(node.users)
    scaled = _After(graph, node).call(aten.mul.Tensor, node, share)
    for user in users:
        user.replace_input_with(node, scaled)
    return node


def _affine(after: _After, made: fx.Node, arguments: Mapping[str, Any]) -> fx.Node:
    for name, operation in (("weight", aten.mul.Tensor), ("bias", aten.add.Tensor)):
        if arguments.get(name) is not None:
            made = after.call(operation, made, arguments[name])
    return made


def _layer_norm(graph: fx.Graph, node: fx.Node, arguments: Mapping[str, Any], share: float) -> fx.Node:
    after, given = _After(graph, node), arguments["input"]
    mean = after.call(aten.mean.dim, given, [-1], True)
    variance = after.call(aten.var.correction, given, [-1], correction=0, keepdim=True)
    spread = after.call(aten.mul.Tensor, after.call(aten.mul.Tensor, mean, mean), 1.0 - share)
    whole = after.call(aten.mul.Tensor, after.call(aten.add.Tensor, variance, spread), share)
    scale = after.call(aten.rsqrt.default, after.call(aten.add.Tensor, whole, arguments["eps"]))
    centred = after.call(aten.sub.Tensor, given, after.call(aten.mul.Tensor, mean, share))
    return _affine(after, after.call(aten.mul.Tensor, centred, scale), arguments)


def _rms_norm(graph: fx.Graph, node: fx.Node, arguments: Mapping[str, Any], share: float) -> fx.Node:
    after, given = _After(graph, node), arguments["input"]
    mean = after.call(aten.mean.dim, after.call(aten.mul.Tensor, given, given), [-1], True)
    eps = after.call(epsilon, given) if arguments["eps"] is None else arguments["eps"]
    whole = after.call(aten.add.Tensor, after.call(aten.mul.Tensor, mean, share), eps)
    made = after.call(aten.mul.Tensor, given, after.call(aten.rsqrt.default, whole))
    return _affine(after, made, arguments)


def epsilon(tensor: Tensor) -> float:
    """What RMS norm adds where nothing is said: the resolution of the tensor's numbers."""
    return torch.finfo(tensor.dtype).eps


_REWRITES: dict[str, Callable[[fx.Graph, fx.Node, Mapping[str, Any], float], fx.Node]] = {
    "mean": _mean,
    "layer_norm": _layer_norm,
    "rms_norm": _rms_norm,
}
