"""Measures layers for a knapsack scope: the loss of removing a share of each, and the cost of running it."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from prune_search.pruning.mask.units import DEPTHWISE, READER, WEIGHT, UnitSet
from prune_search.recipe.problems import Problem, UserError
from prune_search.tasks.dataflow import flow
from prune_search.tasks.layers import listed, own_weights, prunable_weights
from prune_search.tasks.passes import eager, evaluating
from prune_search.tasks.structures import tensors_in

TIMED_PASSES = 5


@dataclass(frozen=True)
class Measuring:
    """The measurements that a scope may ask for.

    Attributes:
        loss: from a layer's name and a count of its units to the loss with its other units removed.
        cost: from ``parameters`` or ``flops`` to the cost of every layer's units with all kept.
        shared: from costs per weight to costs per layer of the scope.
        spent: from the same names or costs to what counts of kept units cost together, as the compact network has it
            where they can be cut out; None: the sum of their shares.
        outliers: from a threshold to the outliers of every block (`block_order.outliers`).
    """

    loss: Callable[[str, int], float]
    cost: Callable[[str], Mapping[str, float]]
    shared: Callable[[Mapping[str, float]], Mapping[str, float]]
    spent: Callable[[str | Mapping[str, float]], Spending] | None = None
    outliers: Callable[[float], Mapping[str, float]] | None = None


@dataclass(frozen=True)
class Spending:
    """What kept units cost.

    Attributes:
        whole: the cost of the dense network.
        total: from how many units of every set are kept to what is left of that cost.
    """

    whole: float
    total: Callable[[Mapping[str, int]], float]

    @classmethod
    def in_proportion(cls, costs: Mapping[str, float], sizes: Mapping[str, int]) -> Spending:
        """Of units that are zeros among others: from costs and numbers of units per set."""

        def total(kept: Mapping[str, int]) -> float:
            return sum(cost * (kept[name] / sizes[name]) for name, cost in costs.items())

        return cls(sum(costs.values()), total)


def layer_costs(model: nn.Module, example: Any, kind: str) -> dict[str, float]:
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


def _parameters(model: nn.Module, example: Any, weights: Mapping[str, nn.Parameter]) -> dict[str, float]:
    return {name: float(weight.numel()) for name, weight in weights.items()}


def _flops(model: nn.Module, example: Any, weights: Mapping[str, nn.Parameter]) -> dict[str, float]:
    return dict(flow(model, example).operations)


def _latency(model: nn.Module, example: Any, weights: Mapping[str, nn.Parameter]) -> dict[str, float]:
    timed = _timed(model, weights)
    begun: dict[nn.Module, float] = {}
    passes: list[dict[str, float]] = []

    def now() -> float:
        if any(tensor.is_cuda for tensor in tensors_in(example)):
            torch.cuda.synchronize()
        return time.perf_counter()

    def before(module: nn.Module, _inputs: object) -> None:
        begun[module] = now()

    def after(module: nn.Module, _inputs: object, _output: object) -> None:
        spent = 1000.0 * (now() - begun[module])
        for name, part in timed[module].items():
            passes[-1][name] = passes[-1].get(name, 0.0) + part * spent

    handles = [module.register_forward_pre_hook(before) for module in timed]
    handles += [module.register_forward_hook(after) for module in timed]
    try:
        with eager(), evaluating(model):
            for _ in range(TIMED_PASSES):
                passes.append({})
                model(example)
    finally:
        for handle in handles:
            handle.remove()
    if unseen := [name for name in flow(model, example).order if name not in passes[0]]:
        text = (
            f"latency of {listed(unseen)} cannot be measured: a function uses its weight, and its layer is never called"
        )
        raise UserError([Problem("kind", text)])
    return {name: statistics.median(one[name] for one in passes) for name in passes[0]}


def _timed(model: nn.Module, weights: Mapping[str, nn.Parameter]) -> dict[nn.Module, dict[str, float]]:
    """The modules that are timed, each with its weights and their shares of its time, by their numbers of values."""
    names = {id(weight): name for name, weight in weights.items()}
    found: dict[nn.Module, dict[str, float]] = {}
    for module in model.modules():
        own: list[Tensor | None] = [module._parameters.get(leaf) for leaf in own_weights(module)]
        if isinstance(module, nn.MultiheadAttention):  # which uses the weight of its projection without calling it
            own.append(module.out_proj.weight)
        sizes = {names[id(weight)]: weight.numel() for weight in own if id(weight) in names and weight is not None}
        if sizes:
            found[module] = {name: size / sum(sizes.values()) for name, size in sizes.items()}
    return found


_COSTS = {"parameters": _parameters, "flops": _flops, "latency": _latency}


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
