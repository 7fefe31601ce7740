"""Tests whether units can be cut out of a captured network, by comparing the cut network with the whole one."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import torch
from torch import Tensor, fx, nn

from prune_search.pruning.structure.analysis import Analysis
from prune_search.pruning.structure.cut import cut, rebuilt, tensors_of, zeroed
from prune_search.pruning.structure.labels import Ids
from prune_search.pruning.structure.sets import Units

# Of the largest output: sums are taken in another order. In double precision, and where the network does not run in it.
TOLERANCE = {torch.float64: 1e-8, torch.float32: 1e-5}
CHANGES = "cutting its units out of the graph changes outputs"


class GraphChecks:
    """A captured network and cut ones, on the same inputs; in double precision where the network can."""

    def __init__(self, analysis: Analysis, redrawn: bool = False) -> None:
        """Run the whole network.

        Args:
            analysis: of the network.
            redrawn: with other weights, none of them 0, so that no branch is dead.
        """
        self.analysis = analysis
        self.least = TOLERANCE[torch.float32] if _casts(analysis.captured.graph) else 0.0
        given = list(analysis.captured.inputs.values())
        draw = torch.Generator().manual_seed(0)
        own = _redrawn(tensors_of(analysis)) if redrawn else tensors_of(analysis)
        self.tensors = {name: _in_double(tensor) for name, tensor in own.items()}
        self.inputs = [
            one.double() + 0.1 * torch.randn(one.shape, generator=draw).to(one) if one.is_floating_point() else one
            for one in given
        ]
        self.whole = self._outputs(lambda: rebuilt(analysis, self.tensors))
        if self.whole is None or not all(bool(out.isfinite().all()) for out in self.whole):
            self.tensors, self.inputs = own, given
            self.whole = self._outputs(lambda: rebuilt(analysis, self.tensors))

    def _outputs(self, make: Callable[[], fx.GraphModule]) -> list[Tensor] | None:
        try:
            with torch.no_grad():
                found = make()(*self.inputs)
        except Exception:  # noqa: BLE001 - whatever a graph raises with sizes that do not go together
            return None
        return [found] if isinstance(found, Tensor) else list(found)

    def apart(self, removed: Ids) -> float | None:
        """How far the outputs are apart without some units, relative to the largest; None where it is too far."""
        return _difference(self.whole, self._outputs(lambda: cut(self.analysis, removed, self.tensors)), self.least)

    def is_exact(self, sets: list[Units]) -> bool:
        """Whether a network without every second unit of some sets does what one does in which they are 0."""
        chosen = [units.classes[1::2] for units in sets]
        removed = np.concatenate(chosen) if chosen else np.zeros(0, dtype=np.int64)
        masked = zeroed(self.analysis, sets, removed, self.tensors)
        tensors = {name: _like(tensor, self.tensors[name]) for name, tensor in masked.items()}
        whole = self._outputs(lambda: rebuilt(self.analysis, tensors))
        small = self._outputs(lambda: cut(self.analysis, removed, self.tensors))
        return _difference(whole, small, self.least) is not None


def _like(tensor: Tensor, before: Tensor) -> Tensor:
    """A parameter where it was one."""
    return nn.Parameter(tensor, requires_grad=False) if isinstance(before, nn.Parameter) else tensor


def _in_double(tensor: Tensor) -> Tensor:
    return _like(tensor.detach().double() if tensor.is_floating_point() else tensor.detach(), tensor)


def _redrawn(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights near those that are given, none of them 0."""
    draw = torch.Generator().manual_seed(0)
    made = {}
    for name, tensor in tensors.items():
        made[name] = tensor
        if isinstance(tensor, nn.Parameter) and tensor.is_floating_point():
            noise = torch.randn(2, *tensor.shape, generator=draw).to(tensor)
            fan = max(1, tensor[0].numel() if tensor.dim() > 1 else 4)
            drawn = tensor.detach() * (1 + 0.3 * noise[0]) + noise[1] * fan**-0.5
            made[name] = nn.Parameter(drawn, requires_grad=False)
    return made


def _casts(graph: fx.GraphModule) -> bool:
    """Whether something is computed in single precision, whatever the inputs and weights are in."""
    return any(
        torch.float32 in (*node.args, *node.kwargs.values()) for node in graph.graph.nodes if node.op == "call_function"
    )


def _difference(whole: list[Tensor] | None, outputs: list[Tensor] | None, least: float = 0.0) -> float | None:
    """The largest difference relative to the largest output; None where it is too large, or there is nothing.

    Args:
        whole: the outputs of a network.
        outputs: of another.
        least: the smallest tolerance.
    """
    if outputs is None or whole is None or len(outputs) != len(whole):
        return None
    worst = 0.0
    for one, other in zip(whole, outputs, strict=True):
        if one.shape != other.shape or (not one.is_floating_point() and not torch.equal(one, other)):
            return None
        if one.is_floating_point() and one.numel():
            scale = float(one.abs().max()) or 1.0
            gap = float((one - other).abs().max()) / scale
            if not gap <= max(least, TOLERANCE.get(one.dtype, 1e-2)):
                return None
            worst = max(worst, gap)
    return worst
