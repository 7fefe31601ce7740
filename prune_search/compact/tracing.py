"""Traces a network with torch.fx into a description made of allowed operations only."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn import functional

from prune_search.compact.graph import CONSTANT, INPUT, Described, Description, Node
from prune_search.compact.operations import FUNCTIONS, LAYERS, REQUIRED
from prune_search.compact.options import number, wholes
from prune_search.tasks.experts import closed_routers
from prune_search.tasks.fusion import is_record
from prune_search.tasks.layers import listed
from prune_search.tasks.passes import evaluating, unwrapped

_CLASSES = {entry.make: name for name, entry in LAYERS.items()}
_TARGETS = {target: name for name, entry in FUNCTIONS.items() for target in entry.targets}
# What such a layer does is a function, with these of its settings as options.
_STATELESS: dict[type[nn.Module], tuple[str, tuple[str, ...]]] = {
    nn.ReLU: ("relu", ()),
    nn.ReLU6: ("relu6", ()),
    nn.SiLU: ("silu", ()),
    nn.Sigmoid: ("sigmoid", ()),
    nn.Tanh: ("tanh", ()),
    nn.Hardswish: ("hardswish", ()),
    nn.Hardsigmoid: ("hardsigmoid", ()),
    nn.LeakyReLU: ("leaky_relu", ("negative_slope",)),
    nn.ELU: ("elu", ("alpha",)),
    nn.GELU: ("gelu", ("approximate",)),
    nn.Softmax: ("softmax", ("dim",)),
    nn.LogSoftmax: ("log_softmax", ("dim",)),
    nn.Flatten: ("flatten", ("start_dim", "end_dim")),
    nn.MaxPool1d: ("max_pool1d", ("kernel_size", "stride", "padding", "dilation", "ceil_mode")),
    nn.MaxPool2d: ("max_pool2d", ("kernel_size", "stride", "padding", "dilation", "ceil_mode")),
    nn.AvgPool2d: (
        "avg_pool2d",
        ("kernel_size", "stride", "padding", "ceil_mode", "count_include_pad", "divisor_override"),
    ),
    nn.AdaptiveAvgPool1d: ("adaptive_avg_pool1d", ("output_size",)),
    nn.AdaptiveAvgPool2d: ("adaptive_avg_pool2d", ("output_size",)),
    nn.Upsample: ("upsample", ("scale_factor", "mode", "align_corners")),
}
_PADDINGS = (nn.ZeroPad1d, nn.ZeroPad2d, nn.ZeroPad3d, nn.ConstantPad1d, nn.ConstantPad2d)
_NOTHING_DONE: tuple[type[nn.Module], ...] = (nn.Identity, nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d)
_IDENTITIES = {"contiguous", "detach", "clone"}
_DROPOUTS = {functional.dropout, functional.dropout1d, functional.dropout2d, functional.dropout3d}


class UndescribedError(Exception):
    """A network does something that is not supported."""


class _Tracer(fx.Tracer):
    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return type(m) in _CLASSES or type(m) in _STATELESS or type(m) in (*_PADDINGS, *_NOTHING_DONE)


def describe(model: nn.Module, shape: tuple[int, ...]) -> Description:
    """What a network computes in evaluation mode, as data.

    Args:
        model: left as it was.
        shape: of one example.

    Raises:
        UndescribedError: with what it does that cannot be described: other layers or functions, control flow that
            depends on values, several inputs or outputs, nothing at all.
    """
    model = unwrapped(model)
    try:
        with evaluating(model):
            graph = _Tracer().trace(model)
    except Exception as error:
        lines = str(error).splitlines() or [""]
        raise UndescribedError(f"torch.fx cannot follow it ({type(error).__name__}: {lines[0][:200]})") from error
    tracing = _Tracing(model, dict(model.named_modules()))
    for node in graph.nodes:
        tracing.add(node)
    if not tracing.nodes:
        raise UndescribedError("it has no operation: its output is its input")
    description = Description(tuple(shape), tuple(tracing.nodes)).needed()
    if description.nodes[-1].name != tracing.output:
        raise UndescribedError("its output does not come from an operation")
    return description


def described(model: nn.Module, shape: tuple[int, ...]) -> Described:
    """A network's description, run with copies of its tensors.

    Raises:
        UndescribedError: see `describe`.
    """
    if routers := list(closed_routers(model)):
        raise UndescribedError(f"{listed(routers)}: no longer routes to removed experts, which no description says")
    with torch.device("meta"):
        made = Described(describe(model, shape))
    state = unwrapped(model).state_dict()
    wanted = made.state_dict()
    if missing := sorted(set(wanted) - set(state)):
        raise UndescribedError(f"{missing[0]} is not in its state dict")
    state = {name: tensor for name, tensor in state.items() if not is_record(name)}
    if unknown := sorted(set(state) - set(wanted)):
        raise UndescribedError(f"{unknown[0]} is not used by its output")
    made.load_state_dict({name: tensor.detach().clone() for name, tensor in state.items()}, assign=True)
    return made.requires_grad_(False)


@dataclass
class _Tracing:
    """The nodes so far.

    Attributes:
        model: that is traced.
        modules: its modules by name.
        nodes: of the description.
        names: what stands for a node of torch.fx: a name of the description.
        batches: nodes that are the batch's size.
        shapes: nodes that are the shape of a tensor.
    """

    model: nn.Module
    modules: Mapping[str, nn.Module]
    nodes: list[Node] = field(default_factory=list)
    names: dict[fx.Node, str] = field(default_factory=dict)
    batches: set[fx.Node] = field(default_factory=set)
    shapes: set[fx.Node] = field(default_factory=set)
    output: str = ""

    def add(self, node: fx.Node) -> None:
        if node.op == "placeholder" and node.args:
            return  # an input with a default, which is not given
        _KINDS[node.op](self, node)

    def emit(
        self, node: fx.Node, op: str, inputs: tuple[str, ...], options: Mapping[str, Any], layer: str = ""
    ) -> None:
        kinds = LAYERS[op].options if op in LAYERS else FUNCTIONS[op].options if op in FUNCTIONS else {}
        for key, allowed in kinds.items():
            if not allowed(options[key]):
                raise UndescribedError(f"{op} with {key} {options[key]!r} is not supported")
        name = f"n{len(self.nodes)}"
        self.nodes.append(Node(name, op, inputs, options, layer))
        self.names[node] = name

    def tensor(self, node: Any) -> str:
        if not isinstance(node, fx.Node) or node not in self.names:
            raise UndescribedError(f"{node!r} is used as a tensor but cannot be described")
        return self.names[node]

    def placeholder(self, node: fx.Node) -> None:
        if INPUT in self.names.values():
            raise UndescribedError("it has more than one input")
        self.names[node] = INPUT

    def module(self, node: fx.Node) -> None:
        layer = str(node.target)
        module = self.modules[layer]
        if node.kwargs or len(node.args) != 1:
            raise UndescribedError(f"{layer} is called with more than one tensor")
        given = self.tensor(node.args[0])
        if isinstance(module, _NOTHING_DONE):
            self.names[node] = given
        elif isinstance(module, _PADDINGS):
            value = float(getattr(module, "value", 0.0))
            self.emit(node, "pad", (given,), {"pad": _listed(module.padding), "mode": "constant", "value": value})
        elif type(module) in _STATELESS:
            op, settings = _STATELESS[type(module)]
            self.emit(node, op, (given,), {key: _listed(getattr(module, key)) for key in settings})
        else:
            op = _CLASSES[type(module)]
            self.emit(node, op, (given,), _settings(module, op), layer)

    def attribute(self, node: fx.Node) -> None:
        layer = str(node.target)
        value: Any = self.model
        for part in layer.split("."):
            value = getattr(value, part)
        if not isinstance(value, Tensor) or value.dim() == 0:
            raise UndescribedError(f"{layer} is not a tensor with dimensions")
        self.emit(node, CONSTANT, (), {"shape": list(value.shape)}, layer)

    def called(self, node: fx.Node) -> None:
        target: Any = node.target
        if target in _SPECIAL:
            _SPECIAL[target](self, node)
            return
        if target in _DROPOUTS or target in _IDENTITIES:
            self.names[node] = self.tensor(node.args[0])
            return
        target = _OPERATORS.get(target, target)
        if target not in _TARGETS:
            raise UndescribedError(f"it calls {getattr(target, '__name__', target)}, which is not supported")
        op = _TARGETS[target]
        if "other" in FUNCTIONS[op].options:
            self._two(node, op)
            return
        entry = FUNCTIONS[op]
        first = node.args[0] if node.args else node.kwargs.get("input")
        many = isinstance(first, list | tuple)
        count = 1 if many else entry.inputs[1]
        tensors = list(first) if isinstance(first, list | tuple) else list(node.args[:count]) or [first]
        inputs = tuple(self.tensor(item) for item in tensors)
        options = _bound(op, entry.arguments, node.args[max(1, count) :], node.kwargs)
        self.emit(node, op, inputs, {key: options[key] for key in entry.options})

    def _two(self, node: fx.Node, op: str) -> None:
        if node.kwargs or len(node.args) != 2:
            raise UndescribedError(f"{op} is called with more than two operands")
        first, second = node.args
        if number(first) and op in ("add", "mul"):
            first, second = second, first
        if number(second):
            self.emit(node, op, (self.tensor(first),), {"other": second})
        else:
            self.emit(node, op, (self.tensor(first), self.tensor(second)), {"other": None})

    def size(self, node: fx.Node) -> None:
        dimensions = list(node.args[1:]) or [node.kwargs.get("dim")]
        if dimensions == [0]:
            self.batches.add(node)
        elif dimensions == [None]:
            self.shapes.add(node)
        else:
            raise UndescribedError("it asks for the size of a tensor")

    def attribute_of(self, node: fx.Node) -> None:
        if node.args[1] != "shape":
            raise UndescribedError(f"it reads the attribute {node.args[1]!r} of a tensor")
        self.shapes.add(node)

    def item(self, node: fx.Node) -> None:
        of, place = node.args
        if of in self.shapes:
            if place != 0:
                raise UndescribedError("it asks for the size of a tensor")
            self.batches.add(node)
            return
        wanted = place if isinstance(place, tuple) else (place,)
        options = [[item.start, item.stop, item.step] if isinstance(item, slice) else item for item in wanted]
        self.emit(node, "take", (self.tensor(of),), {"places": options})

    def reshape(self, node: fx.Node) -> None:
        given = node.args[1:] or (node.kwargs.get("shape", node.kwargs.get("size")),)
        sides = list(given[0]) if len(given) == 1 and isinstance(given[0], list | tuple) else list(given)
        if sides and sides[0] in self.batches:
            sides[0] = 0
        self.emit(node, "reshape", (self.tensor(node.args[0]),), {"shape": sides})

    def permute(self, node: fx.Node) -> None:
        given = node.args[1:] or (node.kwargs.get("dims"),)
        dims = list(given[0]) if len(given) == 1 and isinstance(given[0], list | tuple) else list(given)
        self.emit(node, "permute", (self.tensor(node.args[0]),), {"dims": dims})

    def end(self, node: fx.Node) -> None:
        self.output = self.tensor(node.args[0])


_KINDS: dict[str, Callable[[_Tracing, fx.Node], None]] = {
    "placeholder": _Tracing.placeholder,
    "call_module": _Tracing.module,
    "get_attr": _Tracing.attribute,
    "call_function": _Tracing.called,
    "call_method": _Tracing.called,
    "output": _Tracing.end,
}
_SPECIAL: dict[Any, Callable[[_Tracing, fx.Node], None]] = {
    "size": _Tracing.size,
    getattr: _Tracing.attribute_of,
    operator.getitem: _Tracing.item,
    "reshape": _Tracing.reshape,
    "view": _Tracing.reshape,
    torch.reshape: _Tracing.reshape,
    "permute": _Tracing.permute,
    torch.permute: _Tracing.permute,
}
_OPERATORS: dict[Any, Any] = {
    operator.add: torch.add,
    operator.iadd: torch.add,
    operator.sub: torch.sub,
    operator.mul: torch.mul,
    operator.imul: torch.mul,
    operator.truediv: torch.div,
    operator.matmul: torch.matmul,
}


def _settings(module: nn.Module, op: str) -> dict[str, Any]:
    """The options of a layer, read off it."""
    found = {}
    for key in LAYERS[op].options:
        value = getattr(module, key)
        found[key] = value is not None if key == "bias" else _listed(value)
    return found


def _listed(value: Any) -> Any:
    return [_listed(item) for item in value] if isinstance(value, list | tuple) else value


def _bound(op: str, arguments: Mapping[str, Any], given: tuple[Any, ...], named: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of a call by name, with the defaults of those that are left out."""
    if len(given) > len(arguments):
        raise UndescribedError(f"{op} is called with unsupported arguments")
    bound = {**arguments, **dict(zip(arguments, given, strict=False))}
    for key, value in named.items():
        if key == "input" or (key in ("dtype", "_stacklevel") and (value is None or key == "_stacklevel")):
            continue
        if key not in arguments:
            raise UndescribedError(f"{op} is called with {key}, which is not supported")
        bound[key] = value
    options = FUNCTIONS[op].options
    if left := [key for key in arguments if key not in options and key != "inplace" and bound[key] != arguments[key]]:
        raise UndescribedError(f"{op} with {left[0]} is not supported")
    if missing := [key for key, value in bound.items() if value is REQUIRED]:
        raise UndescribedError(f"{op} is called without {missing[0]}")
    if "stride" in bound and bound["stride"] is None:
        bound["stride"] = bound["kernel_size"]
    if options.get("dim") is wholes and not isinstance(bound["dim"], list | tuple):
        bound["dim"] = [bound["dim"]]
    return {key: _listed(value) for key, value in bound.items()}
