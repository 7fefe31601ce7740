"""Cuts units out of a captured graph: out of its tensors, and out of the sizes that are written into it."""

from __future__ import annotations

import operator
from collections.abc import Mapping
from fractions import Fraction
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, fx, nn

from prune_search.pruning.structure.analysis import Analysis
from prune_search.pruning.structure.labels import Ids
from prune_search.pruning.structure.sets import BESIDE, Units
from prune_search.pruning.structure.statistics import count_zeros

Gone = NDArray[np.bool_]


def gone_with(analysis: Analysis, removed: Ids) -> Gone:
    """Which labels go, bool [labels].

    Args:
        analysis: of the network.
        removed: classes of the units that go.
    """
    found = np.zeros(analysis.notes.labels.count, dtype=bool)
    found[removed] = True
    return found[analysis.classes]


def tensors_of(analysis: Analysis) -> dict[str, Tensor]:
    """The network's own tensors, by the graph's names for them."""
    return {target: operator.attrgetter(target)(analysis.captured.graph) for target in analysis.tensors}


def cut(analysis: Analysis, removed: Ids, tensors: Mapping[str, Tensor] | None = None) -> fx.GraphModule:
    """The network without some units.

    Args:
        analysis: of the network.
        removed: classes of the units that go.
        tensors: in place of the network's own.
    """
    gone = gone_with(analysis, removed)
    made: dict[str, Any] = {}
    for target, tensor in (tensors or tensors_of(analysis)).items():
        small = tensor.detach()
        for dimension, ids in enumerate(analysis.tensors[target]):
            if gone[ids].any():
                stays = torch.from_numpy(np.nonzero(~gone[ids])[0]).to(small.device)
                small = small.index_select(dimension, stays)
        is_parameter = isinstance(tensor, nn.Parameter)
        made[target] = nn.Parameter(small, requires_grad=tensor.requires_grad) if is_parameter else small
    return rebuilt(analysis, made, gone)


def rebuilt(analysis: Analysis, tensors: Mapping[str, Tensor], gone: Gone | None = None) -> fx.GraphModule:
    """The graph with other tensors, and the sizes that go with them.

    Args:
        analysis: of the network.
        tensors: by the graph's names for them.
        gone: which labels go, bool [labels]; None: none of them.
    """
    graph = fx.Graph()
    twins: dict[fx.Node, fx.Node] = {}
    result = graph.graph_copy(analysis.captured.graph.graph, twins)
    graph.output(result)
    if gone is not None:
        for edit in analysis.notes.edits:
            before, after = edit.ids.size, int((~gone[edit.ids]).sum())
            if before != after:
                _change(graph, twins[edit.node], edit.argument, edit.at, before, after)
        for one in analysis.notes.statistics:
            before, after = one.ids.size, int((~gone[one.ids]).sum())
            if before != after:
                count_zeros(graph, twins[one.node], after / before)
    others = {
        str(node.target): operator.attrgetter(str(node.target))(analysis.captured.graph)
        for node in graph.nodes
        if node.op == "get_attr" and str(node.target) not in tensors
    }
    return fx.GraphModule({**others, **tensors}, graph)


def _change(graph: fx.Graph, node: fx.Node, argument: str, at: int | None, before: int, after: int) -> None:
    """One size in the arguments of a node."""
    value = _argument(node, argument)
    if at is None:
        _set(node, argument, _resized(graph, node, value, before, after))
        return
    sizes = list(value)
    sizes[at] = _resized(graph, node, sizes[at], before, after)
    _set(node, argument, sizes)


def _resized(graph: fx.Graph, node: fx.Node, value: Any, before: int, after: int) -> Any:
    """A size as it becomes: -1 stays, and one that is computed keeps its proportion."""
    if isinstance(value, fx.Node):
        share = Fraction(after, before)
        with graph.inserting_before(node):
            times = graph.call_function(operator.mul, (value, share.numerator))
            return graph.call_function(operator.floordiv, (times, share.denominator))
    return value if value == -1 and argument_is_size(node) else after


def argument_is_size(node: fx.Node) -> bool:
    """Whether -1 among the arguments stands for what is left; in a slice it is the last place."""
    return "slice" not in str(node.target)


def _argument(node: fx.Node, name: str) -> Any:
    if name in node.kwargs:
        return node.kwargs[name]
    schema: Any = node.target._schema  # type: ignore[union-attr]
    return node.args[[one.name for one in schema.arguments].index(name)]


def _set(node: fx.Node, name: str, value: Any) -> None:
    if name in node.kwargs:
        node.update_kwarg(name, value)
        return
    schema: Any = node.target._schema  # type: ignore[union-attr]
    node.update_arg([one.name for one in schema.arguments].index(name), value)


def zeroed(analysis: Analysis, sets: list[Units], removed: Ids, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors in which all that units own is 0, as a mask leaves them."""
    gone = set(removed.tolist())
    made = dict(tensors)
    for units in sets:
        chosen = np.array([label in gone for label in units.classes.tolist()])
        if not chosen.any():
            continue
        for one in units.places:
            if one.role != BESIDE:
                tensor = made[one.target].detach().clone()
                tensor.movedim(one.dimension, 0)[torch.from_numpy(one.index[chosen].reshape(-1)).to(tensor.device)] = 0
                made[one.target] = tensor
    return made
