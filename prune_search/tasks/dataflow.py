"""What a forward pass really does with the weights of a network, seen below the modules: operation by operation.

Module hooks do not see a weight that a function uses (attention, ``F.linear`` with a layer's weight), nor a compiled
network. Every operation of torch is seen here, so that nothing that runs is taken for something that does not.
"""

from __future__ import annotations

import contextlib
import copy
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from prune_search.tasks.layers import PRUNABLE, has_computed_bias, prunable_weights

# Operations that sum products of two operands.
_PRODUCTS = {
    "aten.mm": (0, 1),
    "aten.bmm": (0, 1),
    "aten.mv": (0, 1),
    "aten.dot": (0, 1),
    "aten.addmm": (1, 2),
    "aten.baddbmm": (1, 2),
    "aten.addbmm": (1, 2),
    "aten.addmv": (1, 2),
}
_CONVOLUTIONS = frozenset(("aten.convolution", "aten._convolution", "aten.convolution_overrideable"))
_LOOKUPS = frozenset(("aten.embedding", "aten.embedding_bag", "aten._embedding_bag"))
_FUSED = frozenset(
    (
        "aten._cudnn_rnn",
        "aten.mkldnn_rnn_layer",
        "aten.miopen_rnn",
        "aten._trilinear",
        "aten._native_multi_head_attention",
    )
)
_BATCH_NORMS = frozenset(
    (
        *("aten.native_batch_norm", "aten._native_batch_norm_legit", "aten._native_batch_norm_legit_no_training"),
        *("aten.cudnn_batch_norm", "aten.miopen_batch_norm", "aten._batch_norm_no_update"),
    )
)
_DROPOUTS = frozenset(
    (
        *(functional.dropout, functional.dropout1d, functional.dropout2d, functional.dropout3d, torch.dropout),
        *(functional.alpha_dropout, functional.feature_alpha_dropout, torch.feature_dropout),
    )
)
Watch = Callable[["Use"], None]


@dataclass(frozen=True)
class Flow:
    """What one forward pass did with the prunable weights, each by its name.

    Attributes:
        order: those that were used, in the order of their first use.
        outputs: those whose product reaches an output of the network without another matrix in between.
        closed: whether other matrices make the outputs, such as an embedding that scores are products with.
        operations: multiplications and additions for one input, 2 per weight and place.
        uses: how often each was used.
        calls: how often a layer that has it was called.
        norms: batch normalizations that take its product as it is, by the name of their scale.
        last: the one that was used last.
    """

    order: tuple[str, ...]
    outputs: frozenset[str]
    closed: bool
    operations: Mapping[str, float]
    uses: Mapping[str, int]
    calls: Mapping[str, int]
    norms: Mapping[str, tuple[str, ...]]
    last: str | None

    @property
    def uncalled(self) -> tuple[str, ...]:
        """Weights that are used without their layer being called, so that no hook on the layer sees it."""
        return tuple(name for name in self.order if self.uses[name] != self.calls.get(name, 0))


@dataclass(frozen=True, eq=False)
class Use:
    """One operation on a weight.

    Attributes:
        name: of the weight.
        operation: as torch names it, ``aten.addmm``.
        arguments: of it.
        operand: the argument that the weight is, or that is made of it.
    """

    name: str
    operation: str
    arguments: tuple[Any, ...]
    operand: Tensor

    def squares(self) -> Tensor | None:
        """For every value of the operand, Σ x² over the numbers x that it is multiplied with, in float64.

        Shaped like the operand; None where the operation is no product or convolution.
        """
        if self.operation in _PRODUCTS:
            first, second = (self.arguments[place] for place in _PRODUCTS[self.operation])
            if self.operand is second and second.dim() > 1:
                sums: Tensor = first.double().square().sum(-2).unsqueeze(-1)
                return sums.expand_as(second)
            other: Tensor = second.double().square()
            met = other.sum(-1).unsqueeze(-2) if second.dim() > 1 else other
            return met.expand_as(first) if self.operand is first else None
        if self.operation in _CONVOLUTIONS and self.operand is self.arguments[1]:
            inputs, weight = (self.arguments[place].double() for place in (0, 1))
            settings = self.arguments[3:9]
            ones = torch.ones_like(torch.ops.aten.convolution(inputs, weight, None, *settings))
            wanted = [False, True, False]
            made = torch.ops.aten.convolution_backward(ones, inputs.square(), weight, None, *settings, wanted)
            found: Tensor = made[1]
            return found
        return None


@dataclass(frozen=True)
class _Made:
    """What a tensor is made of.

    Attributes:
        weights: the prunable weights that it came through last.
        of_data: whether the inputs play a part; else it is made of parameters and constants.
    """

    weights: frozenset[str] = frozenset()
    of_data: bool = False


_CONSTANT = _Made()


@contextlib.contextmanager
def eager() -> Iterator[None]:
    """Compiled networks run as they were written meanwhile, so that hooks and modes see what they do."""
    if "torch._dynamo" not in sys.modules:  # nothing can be compiled yet, and importing it takes seconds
        yield
        return
    with torch.compiler.set_stance("force_eager"):
        yield


@contextlib.contextmanager
def unfused() -> Iterator[None]:
    """Attention and recurrent layers run as the operations that they are made of."""
    fast = torch.backends.mha.get_fastpath_enabled()
    backends: tuple[Any, ...] = (torch.backends.mkldnn, torch.backends.cudnn)
    enabled = [backend.enabled for backend in backends]
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        for backend in backends:
            backend.enabled = False
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
        for backend, before in zip(backends, enabled, strict=True):
            backend.enabled = before


class _NoDropout(TorchFunctionMode):
    """Functions that drop values return their inputs."""

    def __torch_function__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None) -> Any:
        if func in _DROPOUTS:
            return args[0] if args else kwargs["input"]
        return func(*args, **(kwargs or {}))


def without_dropout() -> contextlib.AbstractContextManager[object]:
    """Nothing is dropped meanwhile, even by networks that always do."""
    return _NoDropout()


@contextlib.contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Evaluation mode without gradients; every module's own mode is restored afterwards."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for module, mode in modes:
            module.training = mode


def unwrapped(model: nn.Module) -> nn.Module:
    """The network itself, without what runs it elsewhere or compiled."""
    wrapper = (nn.DataParallel, nn.parallel.DistributedDataParallel)
    while isinstance(model, wrapper) or isinstance(getattr(model, "_orig_mod", None), nn.Module):
        model = model.module if isinstance(model, wrapper) else model._orig_mod  # type: ignore[assignment]
    return model


def flow(model: nn.Module, example: Any, watch: Watch | None = None) -> Flow:
    """What a forward pass in evaluation mode does with the prunable weights.

    Args:
        model: left as it was: mode, weights and hooks.
        example: a batch of inputs [N, …].
        watch: told of every use of a weight, as it happens.
    """
    weights = prunable_weights(model)
    names = {id(weight): name for name, weight in weights.items()}
    calls: Counter[str] = Counter()

    def note(module: nn.Module, _inputs: object, _output: object) -> None:
        calls[names[id(module._parameters["weight"])]] += 1

    layers = [m for m in model.modules() if isinstance(m, PRUNABLE) and id(m._parameters.get("weight")) in names]
    handles = [layer.register_forward_hook(note) for layer in layers]
    seen = _Seen(model, weights, example, watch)
    try:
        with eager(), unfused(), evaluating(model), same_draws(example), seen:
            outputs = model(example)
    finally:
        for handle in handles:
            handle.remove()
    ends: frozenset[str] = frozenset().union(*(seen.made(tensor).weights for tensor in tensors_in(outputs)))
    count = examples_in(example) or 1
    return Flow(
        tuple(seen.uses),
        ends & weights.keys(),
        bool(ends - weights.keys()),
        {name: total / count for name, total in seen.operations.items()},
        dict(seen.uses),
        dict(calls),
        {name: tuple(dict.fromkeys(found)) for name, found in seen.norms.items()},
        seen.last,
    )


def tensors_in(value: Any) -> list[Tensor]:
    """The tensors in whatever a network takes or returns: mappings, sequences and objects are looked into."""
    found: list[Tensor] = []

    def take(tensor: Tensor) -> Tensor:
        found.append(tensor)
        return tensor

    mapped(value, take)
    return found


def mapped(value: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """The same structure with other tensors; whatever is no tensor stays.

    Args:
        value: a tensor, or mappings, sequences and objects (dataclasses, say) with tensors in them; it is left alone.
        change: from each tensor to the one in its place.
    """
    return _mapped(value, change, {})


# Of containers that were seen already, by their ids: they, so that no id is used again, and what became of them.
_Known = dict[int, tuple[Any, Any]]


def _mapped(value: Any, change: Callable[[Tensor], Tensor], known: _Known) -> Any:
    if isinstance(value, Tensor):
        return change(value)
    if isinstance(value, str | bytes | int | float | type | nn.Module | None) or callable(value):
        return value
    if id(value) not in known:
        # What holds itself holds the old one.
        known[id(value)] = (value, value)
        known[id(value)] = (value, _mapped_parts(value, lambda part: _mapped(part, change, known)))
    return known[id(value)][1]


def _mapped_parts(value: Any, inner: Callable[[Any], Any]) -> Any:
    """A container of other parts; itself where none is another."""
    if isinstance(value, tuple | list | set):
        parts = [(part, inner(part)) for part in value]
        if all(made is part for part, made in parts):
            return value
        made_parts = [made for _, made in parts]
        return type(value)(*made_parts) if hasattr(value, "_fields") else type(value)(made_parts)
    whole = value if isinstance(value, Mapping) else getattr(value, "__dict__", {})
    items = [(key, part, inner(part)) for key, part in whole.items()]
    if all(made is part for _, part, made in items):
        return value
    if isinstance(value, Mapping):
        twin: Any = copy.copy(value) if hasattr(value, "__setitem__") else dict(value)
        for key, _, made in items:
            twin[key] = made
        return twin
    twin = copy.copy(value)
    for key, _, made in items:
        object.__setattr__(twin, key, made)
    return twin


def examples_in(inputs: Any) -> int:
    """How many examples a batch of inputs has: the first dimension of its first tensor that has one; else 0."""
    return next((len(tensor) for tensor in tensors_in(inputs) if tensor.dim()), 0)


def some_examples(inputs: Any, chosen: slice) -> Any:
    """Some of the examples of a batch of inputs; tensors that have no place for each of them stay whole."""
    count = examples_in(inputs)
    return mapped(inputs, lambda tensor: tensor[chosen] if tensor.dim() and len(tensor) == count else tensor)


def repeated(inputs: Any, count: int) -> Any:
    """A batch of so many examples: those of another batch, over and over."""
    has = examples_in(inputs)
    rows = torch.arange(count) % max(1, has)
    return mapped(inputs, lambda t: t[rows.to(t.device)] if t.dim() and len(t) == has else t)


def device_of(inputs: Any) -> torch.device:
    """Where a batch of inputs lies."""
    return next((tensor.device for tensor in tensors_in(inputs)), torch.device("cpu"))


def is_plain(layer: nn.Module, inputs: Tensor) -> bool:
    """Whether a call of a layer can be repeated: its bias is a parameter, and no transform wraps its inputs."""
    return not has_computed_bias(layer) and not torch._C._functorch.is_functorch_wrapped_tensor(inputs)


def twin_of(model: nn.Module) -> nn.Module:
    """A deep copy of a network, whatever it has noted of its last pass: tensors of a graph are copied without it."""
    memo: dict[int, Any] = {}
    for module in model.modules():
        for value in vars(module).values():
            noted = list(value.values()) if isinstance(value, dict) else [value]
            memo.update({id(one): one.detach().clone() for one in _tensors(noted) if one.grad_fn is not None})
    return copy.deepcopy(model, memo)


@contextlib.contextmanager
def same_draws(example: Any) -> Iterator[None]:
    """What a network draws even when it is evaluated is the same every time, and moves no draw outside."""
    devices = sorted({tensor.get_device() for tensor in tensors_in(example) if tensor.is_cuda})
    with torch.random.fork_rng(devices=devices):
        for source in (torch.default_generator, *(torch.cuda.default_generators[index] for index in devices)):
            source.manual_seed(0)
        yield


class _Seen(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Follows what tensors are made of, by their storages, through one forward pass."""

    def __init__(
        self, model: nn.Module, weights: Mapping[str, nn.Parameter], example: Any, watch: Watch | None
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._made: dict[int, _Made] = {}
        # Storages are known by their addresses, which must not be used again meanwhile.
        self._alive: list[Any] = []
        self._products: dict[int, str] = {}
        self._watch = watch
        self._names = {id(parameter): name for name, parameter in model.named_parameters()}
        self.uses: Counter[str] = Counter()
        self.last: str | None = None
        self.operations: dict[str, float] = {}
        self.norms: dict[str, list[str]] = {}
        # Matrices that are not pruned can make outputs too.
        others = {name: p for name, p in model.named_parameters() if p.dim() > 1 and name not in weights}
        self._pruned = frozenset(weights)
        for name, weight in {**others, **weights}.items():
            self._put(weight, _Made(frozenset((name,))))
        for tensor in tensors_in(example):
            self._put(tensor, _Made(of_data=True))

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        # Torch would import its compiler at the first operation, which takes seconds: nothing is compiled here.
        return False

    def made(self, tensor: Tensor) -> _Made:
        """What is known of a tensor."""
        return self._made.get(_storage(tensor), _CONSTANT)

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        operands = [*_tensors(args), *_tensors(tuple(kwargs.values()))]
        results = _tensors(result)
        self._alive += results
        self._follow(str(func.overloadpacket), args, operands, results)
        return result

    def _follow(self, name: str, args: tuple[Any, ...], operands: list[Tensor], results: list[Tensor]) -> None:
        known = [self.made(operand) for operand in operands]
        of_data = any(item.of_data for item in known)
        # Weights, or what is made of weights and constants alone.
        own = [(t, item.weights) for t, item in zip(operands, known, strict=True) if item.weights and not item.of_data]
        weighted = {id(operand) for operand, _ in own}
        # A product of two weights is a weight again.
        mixes = bool(own) and not all(id(factor) in weighted for factor in _factors(name, args))
        if mixes or (own and of_data):
            for operand, weights in own:
                self._used(name, args, operand, weights, results)
        if name in _BATCH_NORMS:
            self._normalized(operands)
        sources = [weights for _, weights in own] if mixes else [item.weights for item in known]
        found = _Made(frozenset().union(*sources), of_data or mixes)
        storages = {_storage(operand) for operand in operands}
        for tensor in results:
            before = self.made(tensor) if _storage(tensor) in storages else _CONSTANT
            self._put(tensor, _Made(found.weights | before.weights, found.of_data or before.of_data))
        if mixes and results and len(found.weights) == 1 and found.weights <= self._pruned:
            (self._products[_storage(results[0])],) = found.weights

    def _used(
        self, name: str, args: tuple[Any, ...], operand: Tensor, of: frozenset[str], results: list[Tensor]
    ) -> None:
        spent = _operations(name, args, operand, results)
        for weight in sorted(of & self._pruned):
            self.uses[weight] += 1
            self.last = weight
            self.operations[weight] = self.operations.get(weight, 0.0) + spent
            if self._watch is not None:
                self._watch(Use(weight, name, args, operand))

    def _normalized(self, operands: list[Tensor]) -> None:
        """Note a batch normalization of a product as it is."""
        product = self._products.get(_storage(operands[0]))
        scale = next((self._names[id(one)] for one in operands[1:] if id(one) in self._names), None)
        if product is not None and scale is not None:
            self.norms.setdefault(product, []).append(scale)

    def _put(self, tensor: Tensor, made: _Made) -> None:
        if made != _CONSTANT:
            key = _storage(tensor)
            before = self._made.get(key, _CONSTANT) if id(tensor) in self._names else _CONSTANT
            self._made[key] = _Made(made.weights | before.weights, made.of_data)


def _tensors(value: Any) -> list[Tensor]:
    """The tensors that an operation of torch takes or returns."""
    if isinstance(value, Tensor):
        return [value]
    return [tensor for part in value for tensor in _tensors(part)] if isinstance(value, tuple | list) else []


def _storage(tensor: Tensor) -> int:
    try:
        return int(tensor.untyped_storage()._cdata)
    except (NotImplementedError, RuntimeError):  # sparse and the like have none
        return id(tensor)


def _factors(name: str, args: tuple[Any, ...]) -> list[Any]:
    """What an operation multiplies with each other, or looks up; nothing of operations that do neither."""
    if name in _PRODUCTS:
        return [args[place] for place in _PRODUCTS[name]]
    if name in _CONVOLUTIONS:
        return list(args[:2])
    if name in _LOOKUPS:
        return [args[1]]
    return list(_tensors(args)) if name in _FUSED else []


def _operations(name: str, args: tuple[Any, ...], operand: Tensor, results: list[Tensor]) -> float:
    """Multiplications and additions of an operation, 2 per weight and place."""
    if name in _PRODUCTS:
        first = args[_PRODUCTS[name][0]]
        return 2.0 * results[0].numel() * int(first.shape[-1])
    if name in _CONVOLUTIONS:
        # Each weight is used once per place: of the output, or of the input of a transposed convolution.
        transposed = bool(args[6])
        seen = args[0] if transposed else results[0]
        return 2.0 * operand.numel() * seen.numel() / operand.shape[0]
    return 2.0 * results[0].numel() if name == "aten.mul" else 0.0
