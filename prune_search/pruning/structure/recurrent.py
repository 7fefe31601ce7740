"""Recurrent layers of several levels and directions as one call for each, so that each has hidden units of its own."""

from __future__ import annotations

import operator
from typing import Any

import torch
from torch import fx

aten = torch.ops.aten
RECURRENT = (aten.lstm.input, aten.gru.input, aten.rnn_tanh.input, aten.rnn_relu.input)
_MAKES_ZEROS = (aten.zeros.default,)


def split_recurrent(graph: fx.GraphModule) -> None:
    """Rewrite calls of several levels or directions; the outputs stay the same."""
    for node in list(graph.graph.nodes):
        if node.target in RECURRENT and _calls(node) > 1:
            with graph.graph.inserting_before(node):
                _Split(graph.graph, node).write()
            drop_unused(graph.graph)
    _select_parts(graph.graph)
    drop_unused(graph.graph)


def drop_unused(graph: fx.Graph) -> None:
    """Erase what no output is computed from; in evaluation nothing is drawn, whatever an operation could draw."""
    graph.eliminate_dead_code(_acts)


def _acts(node: fx.Node) -> bool:
    """Whether a node does something besides what it gives: it is an input or the output, or writes into a tensor."""
    schema = getattr(node.target, "_schema", None)
    return node.op in ("placeholder", "output") or bool(schema is not None and schema.is_mutable)


def _calls(node: fx.Node) -> int:
    levels, both = node.args[4], node.args[7]
    return int(levels) * (2 if both else 1)  # type: ignore[arg-type]


class _Split:
    """One call that becomes several."""

    def __init__(self, graph: fx.Graph, node: fx.Node) -> None:
        self.graph, self.node = graph, node
        states: Any = node.args[1]
        self.states: list[fx.Node] = list(states) if isinstance(states, list | tuple) else [states]
        self.directions = 2 if node.args[7] else 1
        self.time = 1 if node.args[8] else 0
        tensors: Any = node.args[2]
        self.width = len(tensors) // _calls(node)

    def call(self, target: Any, *args: Any) -> fx.Node:
        return self.graph.call_function(target, args)

    def write(self) -> None:
        levels: int = self.node.args[4]  # type: ignore[assignment]
        given: Any = self.node.args[0]
        last: list[list[fx.Node]] = [[] for _ in self.states]
        for level in range(levels):
            made = [self.one(given, level * self.directions + side, side) for side in range(self.directions)]
            given = made[0][0] if len(made) == 1 else self.call(aten.cat.default, [one[0] for one in made], 2)
            for own, *states in made:
                del own
                for at, state in enumerate(states):
                    last[at].append(state)
        for user in list(self.node.users):
            which: Any = user.args[1]
            if user.target is not operator.getitem or not user.users:
                continue
            user.replace_all_uses_with(given if which == 0 else self.call(aten.cat.default, last[which - 1], 0))

    def one(self, given: fx.Node, place: int, side: int) -> list[fx.Node]:
        """The outputs [B, T, H] and the last states [1, B, H] of one direction of one level."""
        tensors = list(self.node.args[2])[place * self.width : (place + 1) * self.width]  # type: ignore[arg-type]
        states = [self.state(state, place) for state in self.states]
        read = self.call(aten.flip.default, given, [self.time]) if side else given
        first: Any = states if isinstance(self.node.args[1], list | tuple) else states[0]
        target: Any = self.node.target
        rest = (self.node.args[3], 1, 0.0, False, False, self.node.args[8])
        made = self.graph.call_function(target, (read, first, tensors, *rest))
        outputs = [self.call(operator.getitem, made, at) for at in range(1 + len(states))]
        if side:
            outputs[0] = self.call(aten.flip.default, outputs[0], [self.time])
        return outputs

    def state(self, state: fx.Node, place: int) -> fx.Node:
        """The first state [1, B, H]: zeros of its own where they are zeros."""
        if state.target in _MAKES_ZEROS:
            sizes: Any = state.args[0]
            target: Any = state.target
            return self.graph.call_function(target, ([1, *sizes[1:]],), dict(state.kwargs))
        return self.call(aten.narrow.default, state, 0, place, 1)


def _select_parts(graph: fx.Graph) -> None:
    """One of the states that were put together: that one, and not the others with it."""
    for node in list(graph.nodes):
        if node.target is not aten.select.int:
            continue
        joined: Any = node.args[0]
        dim, place = node.args[1:3]
        whole = isinstance(joined, fx.Node) and joined.target is aten.cat.default and dim == 0
        parts: Any = joined.args[0] if whole else ()
        ours = parts and all(getattr(part.args[0], "target", None) in RECURRENT for part in parts if part.args)
        if ours and isinstance(place, int) and joined.args[1:] == (0,):
            with graph.inserting_before(node):
                node.replace_all_uses_with(graph.call_function(aten.select.int, (parts[place], 0, 0)))
