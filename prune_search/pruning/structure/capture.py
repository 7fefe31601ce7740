"""Captures a network with torch.export as a graph of ATen operations that takes its input tensors one by one."""

from __future__ import annotations

import logging
import math
import operator
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn

from prune_search.pruning.structure.recurrent import drop_unused, split_recurrent
from prune_search.pruning.structure.values import Shape, shapes_of
from prune_search.tasks.batches import Inputs, named_tensors, with_tensors
from prune_search.tasks.passes import eager, evaluating, same_draws, unwrapped
from prune_search.tasks.structures import repeated, tensors_in

aten = torch.ops.aten
# torch.export takes sizes 0 and 1 for constants.
EXAMPLES = 2
INNER = "network"


class UncapturedError(Exception):
    """torch.export cannot follow a network."""


class Flat(nn.Module):
    """A network that takes its input tensors one by one and returns its output, or a tuple of its output tensors.

    Attributes:
        network: the network itself.
    """

    def __init__(self, model: nn.Module, inputs: Any, names: Sequence[str]) -> None:
        super().__init__()
        self.network, self.inputs, self.names = model, inputs, tuple(names)

    def forward(self, *tensors: Tensor) -> Any:
        """The output tensors for input tensors [B, …]."""
        given = with_tensors(self.inputs, dict(zip(self.names, tensors, strict=True)))
        if isinstance(given, Inputs) and not getattr(type(self.network), "_takes_inputs", False):
            content = given.content
            found = self.network(**content) if isinstance(content, Mapping) else self.network(*content)
        else:
            found = self.network(given)
        outputs = tensors_in(found)
        return outputs[0] if len(outputs) == 1 else tuple(outputs)


@dataclass(frozen=True, eq=False)
class Captured:
    """A network as a graph.

    Attributes:
        graph: takes the input tensors one by one; its attributes are the network's own tensors.
        inputs: example tensors by name, [2, …].
        shapes: what each node of the graph gives for them.
        names: of the parameters and buffers, by the graph's name for them.
        dynamic: per input the dimensions that may have other sizes, as torch.export takes them.
    """

    graph: fx.GraphModule
    inputs: dict[str, Tensor]
    shapes: dict[fx.Node, Shape]
    names: dict[str, str]
    dynamic: tuple[dict[int, Any], ...]


def capture(model: nn.Module, example: Any) -> Captured:
    """A network's graph in evaluation mode.

    Args:
        model: left as it was; the graph has its tensors, not copies of them.
        example: at least one example: a tensor [B, …] or `Inputs`.

    Raises:
        UncapturedError: torch.export cannot follow it: its control flow depends on values, say.
    """
    model = unwrapped(model)
    inputs = repeated(example, EXAMPLES)
    try:
        tensors = named_tensors(model, inputs)
        flat = Flat(model, inputs, list(tensors))
        with eager(), evaluating(model), same_draws(inputs), quietly():
            flat.eval()
            exported, dynamic = _exported(flat, tensors)
            graph = exported.module()
        return _prepared(graph, model, tensors, dynamic)
    except Exception as error:
        lines = str(error).splitlines() or [""]
        raise UncapturedError(f"torch.export cannot follow it ({type(error).__name__}: {lines[0][:200]})") from error


def _exported(
    flat: nn.Module, tensors: Mapping[str, Tensor]
) -> tuple[torch.export.ExportedProgram, tuple[dict[int, Any], ...]]:
    """A program of which as many dimensions as possible have any size: of the batch, and the length of indices."""
    error: Exception | None = None
    for shapes in _dynamic(tensors):
        try:
            given = {"tensors": shapes}
            return torch.export.export(flat, tuple(tensors.values()), dynamic_shapes=given, strict=False), shapes
        except Exception as found:  # noqa: BLE001 - of many kinds; the next attempt asks for less
            error = error or found
    raise error or ValueError("it has no input tensor")


def _dynamic(tensors: Mapping[str, Tensor]) -> Iterator[tuple[dict[int, Any], ...]]:
    auto = torch.export.Dim.AUTO
    batch = [{0: auto} if one.dim() and len(one) == EXAMPLES else {} for one in tensors.values()]
    lengths = [
        {**sizes, 1: auto} if one.dim() == 2 and not one.is_floating_point() and one.shape[1] > 1 else sizes
        for one, sizes in zip(tensors.values(), batch, strict=True)
    ]
    for sizes in (lengths, batch):
        yield tuple(sizes)
    yield tuple({} for _ in tensors)


@contextmanager
def quietly() -> Iterator[None]:
    """torch.export warns of what does not matter here, and logs."""
    loggers = [logging.getLogger(name) for name in ("torch", "torch.export", "torch.fx", "torch.onnx")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _prepared(
    graph: fx.GraphModule, model: nn.Module, tensors: dict[str, Tensor], dynamic: tuple[dict[int, Any], ...]
) -> Captured:
    """The graph without checks, and with operations that say their sizes."""
    for node in list(graph.graph.nodes):
        if node.op == "call_module" or (node.op == "call_function" and str(node.target).startswith("aten._assert")):
            graph.graph.erase_node(node)
    drop_unused(graph.graph)
    # Tensors one by one, and one output as it is.
    graph.graph.set_codegen(fx.graph.CodeGen())
    for node in graph.graph.nodes:
        if node.op == "output" and len(node.args[0]) == 1:
            node.args = (node.args[0][0],)
    graph.recompile()
    split_recurrent(graph)
    shapes = shapes_of(graph, list(tensors.values()))
    for node in graph.graph.nodes:
        if node.op == "call_function" and node.target in _SAID:
            _SAID[node.target](node, shapes)
    own = {id(t): name for name, t in [*model.named_buffers(), *model.named_parameters()]}
    names = {}
    for node in graph.graph.nodes:
        if node.op == "get_attr":
            target = str(node.target)
            tensor = operator.attrgetter(target)(graph)
            names[target] = own.get(id(tensor), target.removeprefix(f"{INNER}."))
    graph.graph.lint()
    graph.recompile()
    return Captured(graph, tensors, shapes, names, dynamic)


def _split_evenly(node: fx.Node, shapes: Mapping[fx.Node, Shape]) -> None:
    """A split into parts of one size, as one into parts of given sizes."""
    dim: Any = node.args[2] if len(node.args) > 2 else node.kwargs.get("dim", 0)
    shape: Any = shapes[node.args[0]]  # type: ignore[index]
    size = shape[dim]
    count: Any = node.args[1]
    length = -(-size // count) if node.target is aten.chunk.default and isinstance(count, int) else count
    if not isinstance(length, int):
        return
    parts = [min(length, size - first) for first in range(0, size, length)]
    node.target, node.args, node.kwargs = aten.split_with_sizes.default, (node.args[0], parts, dim), {}


def _scaled(node: fx.Node, shapes: Mapping[fx.Node, Shape]) -> None:
    """Attention with its scale written down, so that it stays where heads become narrower."""
    if node.kwargs.get("scale") is None:
        shape: Any = shapes[node.args[0]]  # type: ignore[index]
        node.kwargs = {**node.kwargs, "scale": 1 / math.sqrt(shape[-1])}


_SAID: dict[Any, Callable[[fx.Node, Mapping[fx.Node, Shape]], None]] = {
    aten.chunk.default: _split_evenly,
    aten.split.Tensor: _split_evenly,
    aten.scaled_dot_product_attention.default: _scaled,
}
