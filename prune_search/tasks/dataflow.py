"""What a forward pass really does with the weights of a network, seen below the modules: operation by operation.

Module hooks do not see a weight that a function uses (attention, ``F.linear`` with a layer's weight), nor a compiled
network. Every operation of torch is seen here, so that nothing that runs is taken for something that does not.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from prune_search.tasks.layers import PRUNABLE, prunable_weights
from prune_search.tasks.passes import eager, evaluating, same_draws, unfused
from prune_search.tasks.structures import examples_in, listed_tensors, tensors_in

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
        operands = [*listed_tensors(args), *listed_tensors(tuple(kwargs.values()))]
        results = listed_tensors(result)
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
    return list(listed_tensors(args)) if name in _FUSED else []


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
