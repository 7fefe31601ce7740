"""A physically smaller network from any graph of torch.export: the graph without the units that do nothing."""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor, fx, nn

from prune_search.compact.experts import Cut, without_experts
from prune_search.pruning.structure.analysis import Analysis
from prune_search.pruning.structure.capture import Captured, UncapturedError, capture, quietly
from prune_search.pruning.structure.checks import GraphChecks
from prune_search.pruning.structure.choices import analyze
from prune_search.pruning.structure.cut import cut, tensors_of, zeroed
from prune_search.pruning.structure.labels import Ids
from prune_search.pruning.structure.sets import MAKES, READER, WEIGHT, Units, units_of
from prune_search.pruning.structure.zeros import has_removed_places, without_zeros
from prune_search.tasks.structures import tensors_in

MAX_TRIED_ALONE = 64


@dataclass(frozen=True, eq=False)
class Smaller:
    """A network without the units that do nothing.

    Attributes:
        network: takes the input tensors one by one, and returns its output or a tuple of them.
        captured: the whole network's graph, or that of `cut`'s network.
        removed: units that went, and all units, by the first weight that makes them.
        apart: the largest difference of its outputs from the whole network's, relative to the largest output.
        reason: why it is whole or has more than it could; else empty.
        cut: the network that the graph is of, where removed experts were cut out of the whole one first.
    """

    network: fx.GraphModule
    captured: Captured
    removed: Mapping[str, tuple[int, int]]
    apart: float
    reason: str = ""
    cut: Cut | None = None

    def tensors(self) -> dict[str, Tensor]:
        """What is left of the whole network's tensors, by their names in it; of `cut`'s, where experts were cut out."""
        targets = {str(node.target) for node in self.network.graph.nodes if node.op == "get_attr"}
        names = self.captured.names
        return {names[one]: operator.attrgetter(one)(self.network) for one in sorted(targets) if one in names}

    @cached_property
    def batch(self) -> int | None:
        """The only batch that its program takes, where the network's code turns the batch into a number; else None."""
        fixed = [str(shape[0]) for shape in self._input_shapes() if shape]
        return int(fixed[0]) if fixed and all(size.isdigit() for size in fixed) else None

    @cached_property
    def length(self) -> int | None:
        """The only length of indices [B, length] that its program takes; None where it takes any, or no indices."""
        given = zip(self.captured.inputs.values(), self._input_shapes(), strict=True)
        fixed = [str(shape[1]) for one, shape in given if one.dim() == 2 and not one.is_floating_point()]
        return int(fixed[0]) if fixed and all(size.isdigit() for size in fixed) else None

    def _input_shapes(self) -> list[tuple[Any, ...]]:
        """Of the program's inputs. A size that may be another is a symbol, such as s0."""
        given = set(self.program.graph_signature.user_inputs)
        return [tuple(node.meta["val"].shape) for node in self.program.graph.nodes if node.name in given]

    @cached_property
    def program(self) -> torch.export.ExportedProgram:
        """The network as torch.export's program: `torch.export.save` writes it, and plain torch loads it."""
        inputs = tuple(self.captured.inputs.values())
        with quietly(), torch.no_grad():
            try:
                return torch.export.export(self.network, inputs, dynamic_shapes=self.captured.dynamic, strict=False)
            except Exception:  # noqa: BLE001 - of many kinds: the sizes of the example, then
                return torch.export.export(self.network, inputs, strict=False)


def smaller(model: nn.Module, example: Any, multiple: int = 1) -> Smaller:
    """A physically smaller network with the outputs of a masked one.

    Experts that are not routed to any more go first (`compact.experts`). Of the rest a unit goes where no weight that
    is not 0 reads it, or where all that makes it is 0. What came out is run beside the network that it was made from;
    where their outputs differ, units go by sets, and only those that change nothing.

    Args:
        model: with its masks applied; left as it was. Its outputs are those in evaluation mode.
        example: at least one example: a tensor [B, …] or `Inputs`, on the CPU.
        multiple: of every kind of units as many stay as the next multiple of it.

    Raises:
        UncapturedError: torch.export cannot follow the network.
    """
    cut_out = without_experts(model, example)
    if cut_out is None:
        return _smallest(model, example, multiple)
    if cut_out.network is None:
        found = _smallest(model, example, multiple)
        return replace(found, reason="; ".join(filter(None, (cut_out.reason, found.reason))))
    found = _smallest(cut_out.network, example, multiple)
    return replace(found, removed={**cut_out.removed, **found.removed}, cut=cut_out)


def _smallest(model: nn.Module, example: Any, multiple: int) -> Smaller:
    captured = _without_zeros(model, example)
    wide = _width_cut(captured, multiple)
    if wide is not None:
        return wide
    analysis = analyze(captured)
    sets = units_of(analysis)
    checks = GraphChecks(analysis)
    reason = ""
    for strict in (False, True):
        idle = _idle(analysis, sets, strict, multiple)
        apart = checks.apart(idle)
        if apart is not None:
            return _smaller(captured, analysis, sets, idle, apart, reason)
        reason = "some units that are 0 still affect the layers that read them"
    fine = np.zeros(0, dtype=np.int64)
    for units in sets[:MAX_TRIED_ALONE]:
        more = np.concatenate([fine, np.intersect1d(idle, units.classes)])
        if len(more) > len(fine) and checks.apart(more) is not None:
            fine = more
    apart = checks.apart(fine)
    reason = "some units could not be cut out without changing outputs"
    return _smaller(captured, analysis, sets, fine, 0.0 if apart is None else apart, reason)


def _without_zeros(model: nn.Module, example: Any) -> Captured:
    """The network's graph without the branches that are 0 whatever comes in, where that changes no outputs."""
    captured = capture(model, example)
    inputs = list(captured.inputs.values())
    with torch.no_grad():
        before = tensors_in(captured.graph(*inputs))
        if not without_zeros(captured):
            return captured
        after = tensors_in(captured.graph(*inputs))
    same = all(torch.allclose(one, other, rtol=1e-5, atol=1e-6) for one, other in zip(before, after, strict=True))
    return captured if same else capture(model, example)


def _width_cut(captured: Captured, multiple: int) -> Smaller | None:
    """The network without removed places of a residual stream; None where there are none, or outputs would change."""
    own = {str(n.target): operator.attrgetter(str(n.target))(captured.graph) for n in _attributes(captured.graph)}
    if not has_removed_places(own):
        return None
    analysis = analyze(captured, widths=True)
    sets = units_of(analysis)
    idle = _idle(analysis, sets, False, multiple)
    counted = [one.ids for one in analysis.notes.statistics]
    if not counted or not np.isin(analysis.classes[np.concatenate(counted)], idle).any():
        return None
    apart = GraphChecks(analysis).apart(idle)
    return None if apart is None else _smaller(captured, analysis, sets, idle, apart, "")


def _attributes(graph: fx.GraphModule) -> list[fx.Node]:
    return [node for node in graph.graph.nodes if node.op == "get_attr"]


def _smaller(
    captured: Captured, analysis: Analysis, sets: Sequence[Units], removed: Ids, apart: float, reason: str
) -> Smaller:
    counts: dict[str, tuple[int, int]] = {}
    for units in sets:
        name = captured.names[[*units.having(WEIGHT), *units.places][0].target]
        went, all_of_it = counts.get(name, (0, 0))
        counts[name] = (went + int(np.isin(units.classes, removed).sum()), all_of_it + len(units.classes))
    return Smaller(cut(analysis, removed).eval(), captured, counts, apart, reason)


def _idle(analysis: Analysis, sets: Sequence[Units], strict: bool, multiple: int) -> Ids:
    """The classes of units that can go, one at least of every kind left.

    Args:
        analysis: of the network.
        sets: its units.
        strict: those that are 0 stay where something reads them.
        multiple: see `smaller`.
    """
    tensors = {target: tensor.detach() for target, tensor in tensors_of(analysis).items()}
    gone = {at: np.zeros(len(units.classes), dtype=bool) for at, units in enumerate(sets)}
    while True:
        before = sum(int(mask.sum()) for mask in gone.values())
        for at, units in enumerate(sets):
            gone[at] |= _does_nothing(units, tensors, strict)
        removed = _classes(sets, gone)
        if sum(int(mask.sum()) for mask in gone.values()) == before:
            break
        tensors = zeroed(analysis, list(sets), removed, tensors)
    for mask in gone.values():
        stay = len(mask) - int(mask.sum())
        wanted = min(len(mask), max(1, -(-stay // multiple) * multiple))
        mask[np.nonzero(mask)[0][: wanted - stay]] = False
    return _classes(sets, gone)


def _classes(sets: Sequence[Units], gone: Mapping[int, Any]) -> Ids:
    found = [units.classes[gone[at]] for at, units in enumerate(sets)]
    return np.concatenate(found) if found else np.zeros(0, dtype=np.int64)


def _does_nothing(units: Units, tensors: Mapping[str, Tensor], strict: bool) -> Any:
    """Which units no weight reads, or nothing makes, bool [units]."""
    unread = _all_zero(units, units.having(READER), tensors)
    silent = _all_zero(units, units.having(*MAKES), tensors)
    if units.contracted:
        return silent
    return unread if strict else unread | silent


def _all_zero(units: Units, places: Sequence[Any], tensors: Mapping[str, Tensor]) -> Any:
    """Units all of whose values there are 0; none where there are no such places."""
    found = np.full(len(units.classes), bool(places))
    for one in places:
        tensor = tensors[one.target]
        rows = tensor.movedim(one.dimension, 0).reshape(tensor.shape[one.dimension], -1)
        silent = (rows == 0).all(1).cpu().numpy()
        found &= silent[one.index].all(1)
    return found


__all__ = ["Smaller", "UncapturedError", "smaller"]
