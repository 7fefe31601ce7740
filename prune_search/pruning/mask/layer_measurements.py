"""Measures layers for a knapsack scope: the loss of removing a share of each, and the cost of running it."""

from __future__ import annotations

import contextlib
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from prune_search.pruning.mask.units import DEPTHWISE, READER, WEIGHT, UnitSet
from prune_search.tasks.network import PRUNABLE, evaluating, prunable_weights

TIMED_PASSES = 5


@dataclass(frozen=True)
class Measuring:
    """The measurements that a scope may ask for.

    Attributes:
        loss: from a layer's name and a count of its units to the loss with its other units removed.
        cost: from ``parameters`` or ``flops`` to the cost of every layer's units with all kept.
        shared: from costs per weight to costs per layer of the scope.
    """

    loss: Callable[[str, int], float]
    cost: Callable[[str], Mapping[str, float]]
    shared: Callable[[Mapping[str, float]], Mapping[str, float]]


def layer_costs(model: nn.Module, example: Tensor, kind: str) -> dict[str, float]:
    """What each layer costs for one input.

    Args:
        model: left as it was.
        example: inputs [N, …].
        kind: ``parameters``: weights; ``flops``: multiplications and additions of the weights (2 per weight and place
            of the output); ``latency``: milliseconds of the layer's forward pass on this machine, the median of 5.

    Returns:
        By weight name, in module order; 0 for layers that do not run.
    """
    weights = prunable_weights(model)
    costs = _COSTS[kind](model, example, weights)
    return {name: costs.get(name, 0.0) for name in weights}


def _parameters(model: nn.Module, example: Tensor, weights: Mapping[str, nn.Parameter]) -> dict[str, float]:
    return {name: float(weight.numel()) for name, weight in weights.items()}


def _flops(model: nn.Module, example: Tensor, weights: Mapping[str, nn.Parameter]) -> dict[str, float]:
    names = {id(weight): name for name, weight in weights.items()}
    found: dict[str, float] = {}

    def note(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        weight = module._parameters["weight"]
        if weight is None:
            return
        # Each weight is used once per place: of the output, or of the input of a transposed convolution.
        seen = inputs[0] if getattr(module, "transposed", False) else output
        channels = weight.shape[0]
        name = names[id(weight)]
        found[name] = found.get(name, 0.0) + 2.0 * weight.numel() * seen.numel() / channels / len(example)

    with _watched(model, after=note), evaluating(model):
        model(example)
    return found


def _latency(model: nn.Module, example: Tensor, weights: Mapping[str, nn.Parameter]) -> dict[str, float]:
    names = {id(weight): name for name, weight in weights.items()}
    begun: dict[nn.Module, float] = {}
    passes: list[dict[str, float]] = []

    def now() -> float:
        if example.is_cuda:
            torch.cuda.synchronize()
        return time.perf_counter()

    def before(module: nn.Module, _inputs: object) -> None:
        begun[module] = now()

    def after(module: nn.Module, _inputs: object, _output: object) -> None:
        name = names[id(module._parameters["weight"])]
        passes[-1][name] = passes[-1].get(name, 0.0) + 1000.0 * (now() - begun[module])

    with _watched(model, before, after), evaluating(model):
        for _ in range(TIMED_PASSES):
            passes.append({})
            model(example)
    return {name: statistics.median(one[name] for one in passes) for name in passes[0]}


_COSTS = {"parameters": _parameters, "flops": _flops, "latency": _latency}


@contextlib.contextmanager
def _watched(
    model: nn.Module, before: Callable[..., None] | None = None, after: Callable[..., None] | None = None
) -> Iterator[None]:
    layers = [m for m in model.modules() if isinstance(m, PRUNABLE) and m._parameters.get("weight") is not None]
    handles = [layer.register_forward_pre_hook(before) for layer in layers if before is not None]
    handles += [layer.register_forward_hook(after) for layer in layers if after is not None]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def shared_costs(sets: Sequence[UnitSet], costs: Mapping[str, float]) -> dict[str, float]:
    """Costs per weight as costs per set of units, such that Σ density · cost is never less than what is really kept.

    A weight whose outputs and inputs are both removed as channels costs d·e of its whole; half of it is charged to each
    side, and (d + e) / 2 ≥ d·e.
    """
    claims: dict[str, int] = {}
    claimed = [
        (one.name, part.parameter) for one in sets for part in one.parts if part.role in (WEIGHT, READER, DEPTHWISE)
    ]
    for _, parameter in claimed:
        claims[parameter] = claims.get(parameter, 0) + 1
    found = {one.name: 0.0 for one in sets}
    for name, parameter in claimed:
        found[name] += costs.get(parameter, 0.0) / claims[parameter]
    return found
