"""A described network: its operations as plain data, the module that runs them, and a strict reader."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from prune_search.compact.operations import FUNCTIONS, LAYERS
from prune_search.compact.options import size
from prune_search.recipe.problems import Problem, UserError, not_one_of, shown

INPUT, CONSTANT = "input", "constant"
MAX_NODES = 50_000
# Of layers and nodes; no underscores in pairs, so that no attribute of Python's own can be meant.
_NAME = re.compile(r"(?!.*__)[A-Za-z0-9_]+(\.[A-Za-z0-9_]+)*", re.ASCII)
_CONSTANT_OPTIONS = {"shape": lambda value: isinstance(value, list) and all(map(size, value)) and len(value) <= 16}
_KEYS = {"name": str, "op": str, "inputs": list, "options": dict, "layer": str}


@dataclass(frozen=True)
class Node:
    """One operation.

    Attributes:
        name: of what comes out of it.
        op: of LAYERS or FUNCTIONS, or ``constant``: a tensor that is stored.
        inputs: names of earlier nodes, or ``input``.
        options: plain data.
        layer: the name of the layer whose tensors it uses, as in the state dict; empty for functions.
    """

    name: str
    op: str
    inputs: tuple[str, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)
    layer: str = ""


@dataclass(frozen=True)
class Description:
    """What a network computes in evaluation mode.

    Attributes:
        shape: of one example.
        nodes: in order; the last one's output is the network's.
    """

    shape: tuple[int, ...]
    nodes: tuple[Node, ...]

    def as_data(self) -> dict[str, Any]:
        """As JSON holds it; what is empty is left out."""
        nodes = [
            {key: value for key, value in vars(node).items() if value or key in ("name", "op")} for node in self.nodes
        ]
        return {"input": list(self.shape), "nodes": nodes}

    def needed(self) -> Description:
        """Without what the output does not depend on."""
        wanted = {self.nodes[-1].name}
        kept = []
        for node in reversed(self.nodes):
            if node.name in wanted:
                kept.append(node)
                wanted.update(node.inputs)
        return Description(self.shape, tuple(reversed(kept)))


class Described(nn.Module):
    """Runs a description. Its state dict has the names of the network that was described.

    Args:
        description: checked, from `describe` or `read`.
    """

    def __init__(self, description: Description) -> None:
        super().__init__()
        self.description = description
        self._last_use: dict[str, int] = {}
        for place, node in enumerate(description.nodes):
            self._last_use.update(dict.fromkeys(node.inputs, place))
            if node.layer:
                self._place(node)
        # Looking a layer up by its name takes longer than a small one takes to run.
        self._layers = [
            self.get_submodule(node.layer) if node.layer and node.op != CONSTANT else None for node in description.nodes
        ]
        self.eval()

    def _place(self, node: Node) -> None:
        owner: nn.Module = self
        *path, last = node.layer.split(".")
        for part in path:
            if part not in owner._modules:
                owner.add_module(part, nn.Module())
            owner = owner._modules[part]  # type: ignore[assignment]
        if node.op == CONSTANT:
            owner.register_buffer(last, torch.zeros(node.options["shape"]))
        elif last not in owner._modules:
            owner.add_module(last, LAYERS[node.op].make(**node.options))

    def run(self, x: Tensor, seen: Callable[[Node, Tensor], None] | None = None) -> Tensor:
        """The output [B, …] for inputs `x` [B, …]; `seen` is called with every node and its output."""
        values: dict[str, Tensor] = {INPUT: x}
        out = x
        for place, (node, layer) in enumerate(zip(self.description.nodes, self._layers, strict=True)):
            inputs = [values[name] for name in node.inputs]
            if layer is not None:
                out = layer(*inputs)
            elif node.op == CONSTANT:
                out = self.get_buffer(node.layer)
            else:
                out = FUNCTIONS[node.op].run(inputs, **node.options)
            values[node.name] = out
            for name in node.inputs:
                if self._last_use[name] == place:
                    values.pop(name, None)
            if seen is not None:
                seen(node, out)
        return out

    def forward(self, x: Tensor) -> Tensor:
        """From inputs [N, *shape] to what the network makes of them."""
        return self.run(x)


def read(data: Any, source: str) -> Description:
    """A description from plain data that may come from anywhere.

    Args:
        data: what `Description.as_data` makes.
        source: where it comes from, for messages.

    Raises:
        UserError: with everything that is not on the list of what is allowed.
    """
    problems: list[Problem] = []
    if not isinstance(data, dict) or set(data) != {"input", "nodes"}:
        raise UserError([Problem("", "must have the keys input and nodes", source)])
    shape, raw = data["input"], data["nodes"]
    if not _CONSTANT_OPTIONS["shape"](shape) or not shape:
        problems.append(Problem("input", f"must be the shape of one example (got {shown(shape)})", source))
    if not isinstance(raw, list) or not 1 <= len(raw) <= MAX_NODES:
        problems.append(Problem("nodes", f"must be a list of 1 to {MAX_NODES} operations", source))
        raise UserError(problems)
    known = {INPUT}
    layers: dict[str, Node] = {}
    nodes = []
    for place, item in enumerate(raw):
        wrong = _wrong_form(item) or _wrong(item, known, layers)
        if wrong:
            problems.append(Problem(f"nodes.{place}", wrong, source))
            continue
        node = Node(**{**item, "inputs": tuple(item.get("inputs", ()))})
        known.add(node.name)
        if node.layer:
            layers[node.layer] = node
        nodes.append(node)
    if problems:
        raise UserError(problems)
    inside = [name for name in layers if any(name.startswith(f"{other}.") for other in _prefixes(name) & set(layers))]
    if inside:
        raise UserError([Problem("nodes", f"the layer {shown(inside[0])} is nested inside another layer", source)])
    return Description(tuple(shape), tuple(nodes))


def _prefixes(name: str) -> set[str]:
    parts = name.split(".")
    return {".".join(parts[:count]) for count in range(1, len(parts))}


def _wrong_form(item: Any) -> str:
    if not isinstance(item, dict) or not {"name", "op"} <= set(item) <= set(_KEYS):
        return f"must have name and op, plus the inputs, options and layer that op needs (got {shown(item)})"
    for key, kind in _KEYS.items():
        if key in item and not isinstance(item[key], kind):
            return f"{key} must be a {kind.__name__} (got {shown(item[key])})"
    if not all(isinstance(name, str) for name in item.get("inputs", ())):
        return "inputs must be names"
    return ""


def _wrong(item: Mapping[str, Any], known: set[str], layers: Mapping[str, Node]) -> str:
    """What is wrong with a node whose keys are of the right types; empty where nothing is."""
    name, op, layer = item["name"], item["op"], item.get("layer", "")
    inputs, options = item.get("inputs", []), item.get("options", {})
    if not _NAME.fullmatch(name) or name in known:
        return f"the name {shown(name)} is invalid or already used"
    if missing := [given for given in inputs if given not in known]:
        return f"the input {shown(missing[0])} is not an earlier node"
    if op == CONSTANT or op in LAYERS:
        least, most, kinds = (0, 0, _CONSTANT_OPTIONS) if op == CONSTANT else (1, 1, LAYERS[op].options)
        if not _NAME.fullmatch(layer) or hasattr(nn.Module, layer.split(".")[0]):
            return f"the layer {shown(layer)} is not a valid name"
        before = layers.get(layer)
        if before is not None and (before.op, dict(before.options)) != (op, options):
            return f"the layer {shown(layer)} is described twice in different ways"
    elif op in FUNCTIONS:
        (least, most), kinds = FUNCTIONS[op].inputs, FUNCTIONS[op].options
        if layer:
            return f"{op} has no layer"
    else:
        return f"op: {not_one_of(op, (*LAYERS, *FUNCTIONS, CONSTANT))}"
    if not least <= len(inputs) <= most:
        return f"{op} takes {least} to {most} inputs (got {len(inputs)})"
    if set(options) != set(kinds):
        return f"{op} takes the options {', '.join(sorted(kinds)) or 'none'} (got {', '.join(sorted(options))})"
    if bad := [key for key, allowed in kinds.items() if not allowed(options[key])]:
        return f"{op}: {bad[0]} cannot be {shown(options[bad[0]])}"
    return ""


def build(description: Description, tensors: Mapping[str, Tensor], source: str) -> Described:
    """Build the network of a description. Nothing is allocated before the tensors are known to fit.

    Args:
        description: from `describe` or `read`.
        tensors: its state dict, each with the shape [...] in the description; used without copying.
        source: where they come from, for error messages.

    Raises:
        UserError: a layer cannot be made so, the tensors are not those of the description, or its operations do not
            go together.
    """
    try:
        with torch.device("meta"):
            model = Described(description)
        _check_tensors(model, tensors, source)
        model.load_state_dict(dict(tensors), assign=True)
        model.requires_grad_(False)
        with torch.device("meta"):
            trial = Described(description)
        with torch.no_grad():
            trial(torch.empty(2, *description.shape, device="meta"))
    except UserError:
        raise
    except Exception as error:
        lines = str(error).splitlines() or [""]
        text = f"the operations do not fit together ({type(error).__name__}: {lines[0][:200]})"
        raise UserError([Problem("", text, source)]) from error
    return model


def _check_tensors(model: nn.Module, tensors: Mapping[str, Tensor], source: str) -> None:
    state = model.state_dict()
    problems = []
    for name in sorted(set(state) | set(tensors)):
        if name not in state or name not in tensors:
            text = f"the tensor {shown(name)} is {'not described' if name not in state else 'missing'}"
            problems.append(Problem("", text, source))
        elif tensors[name].shape != state[name].shape:
            text = f"{name} is {tuple(tensors[name].shape)}, described as {tuple(state[name].shape)}"
            problems.append(Problem("", text, source))
    if problems:
        raise UserError(problems[:20])


def output_shapes(model: Described, batch: int = 2) -> dict[str, tuple[int, ...]]:
    """The shape of what comes out of every node, for a batch of inputs."""
    shapes: dict[str, tuple[int, ...]] = {INPUT: (batch, *model.description.shape)}

    def note(node: Node, out: Tensor) -> None:
        shapes[node.name] = tuple(out.shape)

    with torch.device("meta"), torch.no_grad():
        copy = Described(model.description)
        copy.run(torch.empty(batch, *model.description.shape), note)
    return shapes
