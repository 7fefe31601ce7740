"""What each node of a graph yields for example inputs: the shapes of tensors, and numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, fx

# Of a tensor its sizes, of several a list of them, and of a number itself.
Shape = tuple[int, ...] | list[Any] | int | float | bool | None


def shape_of(value: Any) -> Shape:
    """The sizes of a tensor; a number as it is."""
    if isinstance(value, Tensor):
        return tuple(value.shape)
    if isinstance(value, tuple | list):
        return [shape_of(part) for part in value]
    return value if isinstance(value, int | float | bool) else None


class _Shapes(fx.Interpreter):
    """Runs a graph and notes what each node gives."""

    def __init__(self, graph: fx.GraphModule) -> None:
        super().__init__(graph, garbage_collect_values=True)
        self.found: dict[fx.Node, Shape] = {}

    def run_node(self, n: fx.Node) -> Any:
        value = super().run_node(n)
        self.found[n] = shape_of(value)
        return value


def shapes_of(graph: fx.GraphModule, inputs: Sequence[Tensor]) -> dict[fx.Node, Shape]:
    """What each node gives for example inputs."""
    interpreter = _Shapes(graph)
    with torch.no_grad():
        interpreter.run(*inputs)
    return interpreter.found
