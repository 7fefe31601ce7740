"""Runs the rules of all operations over a captured graph."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import fx

from prune_search.pruning.structure.capture import Captured
from prune_search.pruning.structure.labels import FIXED, Dims, Ids, fixed, joined_roots
from prune_search.pruning.structure.place import Given, Notes, Place, name_of
from prune_search.pruning.structure.rules import RULES
from prune_search.pruning.structure.rules.elementwise import pointwise
from prune_search.pruning.structure.rules.registry import Rule
from prune_search.pruning.structure.values import Shape

OUTPUT = "it produces the network's outputs"
INPUT = "it is tied to the network's inputs"


@dataclass(frozen=True, eq=False)
class Analysis:
    """Which places of a network's tensors go together.

    Attributes:
        captured: the graph.
        notes: of the rules.
        tensors: labels of the network's own tensors, by the graph's name for them.
        classes: what each label stands for, `FIXED` where it cannot go.
        reasons: by class that cannot go, one reason.
    """

    captured: Captured
    notes: Notes
    tensors: Mapping[str, Dims]
    classes: Ids
    reasons: Mapping[int, str]

    def reason(self, ids: Ids) -> str:
        """Why some places cannot go; empty where they can."""
        if not (self.classes[ids] == FIXED).any():
            return ""
        stuck = ids[self.classes[ids] == FIXED]
        found = (self.reasons.get(int(root), "") for root in self.notes.labels.roots[stuck])
        return next((one for one in found if one), "it has one unit")


def analyzed(captured: Captured, choices: Mapping[tuple[str, int], int], widths: bool = False) -> Analysis:
    """Which places of a network's tensors go together.

    Args:
        captured: the network.
        choices: which part of a split dimension has the units, see `place.Notes`.
        widths: whether places that a normalization takes its statistics over can go even from a residual stream.
    """
    notes = Notes(choices=dict(choices), widths=widths)
    dims: dict[fx.Node, Given] = {}
    tensors: dict[str, Dims] = {}
    for node in captured.graph.graph.nodes:
        shape = captured.shapes[node]
        if node.op == "get_attr":
            target = str(node.target)
            if target not in tensors and isinstance(shape, tuple):
                tensors[target] = [notes.labels.fresh(size) for size in shape]
            dims[node] = tensors.get(target)
        elif node.op == "placeholder":
            dims[node] = [fixed(size) for size in shape] if isinstance(shape, tuple) else None
        elif node.op == "output":
            for given in node.all_input_nodes:
                fix_all(notes, dims[given], OUTPUT)
        else:
            dims[node] = _ruled(Place(node, captured.shapes, dims, notes), shape)
    _tie_shared(captured, notes, tensors)
    if not widths:
        keep_streams(captured, notes)
    classes, reasons = notes.labels.classes()
    return Analysis(captured, notes, tensors, classes, reasons)


def _ruled(place: Place, shape: Shape) -> Given:
    """The labels of what a node gives: by its rule, or fixed where there is none or it does not know."""
    if shape is None or isinstance(shape, int | float | bool):
        return None
    name = name_of(place.node)
    rule = RULES.get(name)
    tags = getattr(place.node.target, "tags", ())
    if rule is None and torch.Tag.pointwise in tags:
        rule = pointwise
    why = f"{name} has no rule here"
    if rule is not None:
        found = _by_rule(rule, place)
        if _sizes(found) == _listed(shape):
            return found
        why = f"{name} is called in a way that has no rule here"
    place.notes.unknown.add(name)
    for given in place.node.all_input_nodes:
        fix_all(place.notes, place.dims[given], why)
    return list(all_fixed(shape))


def _by_rule(rule: Rule, place: Place) -> Given:
    """What a rule says; None where an argument is one that it does not foresee.

    What it has tied by then goes together: at most too much.
    """
    try:
        return list(rule(place))
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError):
        return None


def _sizes(found: Any) -> Any:
    """The sizes of one or several tensors whose labels are known."""
    if isinstance(found, np.ndarray):
        return found.size
    return None if found is None else [_sizes(one) for one in found]


def _listed(shape: Any) -> Any:
    return [_listed(one) for one in shape] if isinstance(shape, tuple | list) else shape


def all_fixed(shape: Shape) -> Any:
    """Labels of places that cannot go, for one or several tensors."""
    if isinstance(shape, tuple):
        return [fixed(size) for size in shape]
    return [all_fixed(one) for one in shape] if isinstance(shape, list) else None


def fix_all(notes: Notes, given: Any, why: str) -> None:
    """All places of one or several tensors cannot go."""
    for part in given or ():
        if isinstance(part, np.ndarray):
            notes.labels.fix(part, why)
        else:
            fix_all(notes, part, why)


def _tie_shared(captured: Captured, notes: Notes, tensors: Mapping[str, Dims]) -> None:
    """A tensor that the graph has under two names is one."""
    first: dict[str, Dims] = {}
    for target, dims in tensors.items():
        before = first.setdefault(captured.names[target], dims)
        for own, other in zip(before, dims, strict=True):
            notes.labels.tie(own, other, "it is shared with a layer that stays whole")


def keep_streams(captured: Captured, notes: Notes) -> None:
    """Places of a residual stream that a statistic is taken over stay: a norm's width, or a mean's.

    Within a branch, or where there is no stream, they can go, and the statistic goes on counting them.
    """
    streams = skipped(captured, notes)
    if not notes.statistics or not streams:
        return
    classes, _ = notes.labels.classes()
    wide = np.unique(classes[np.concatenate(streams)])
    left = []
    for one in notes.statistics:
        if (np.isin(classes[one.ids], wide) & (classes[one.ids] != FIXED)).any():
            notes.labels.fix(one.ids, one.why)
        else:
            left.append(one)
    notes.statistics[:] = left


def skipped(captured: Captured, notes: Notes) -> list[Ids]:
    """The labels of what skip connections add: two terms that did not go together before."""
    order = {node: place for place, node in enumerate(captured.graph.graph.nodes)}
    labels, found, done = notes.labels, [], 0
    roots = np.arange(labels.count, dtype=np.int64)
    for one in notes.joined:
        roots = joined_roots(roots, labels.ties[done : one.known])
        done = one.known
        if not np.array_equal(roots[one.first], roots[one.second]) and _skips(one.node, order):
            found.append(one.ids)
    return found


def _skips(addition: fx.Node, order: Mapping[fx.Node, int]) -> bool:
    """Whether one of two terms is computed from the other."""
    first, second = sorted(addition.all_input_nodes, key=order.__getitem__)
    seen, left = set(), [second]
    while left:
        node = left.pop()
        if node is first:
            return True
        if node not in seen and order[node] > order[first]:
            seen.add(node)
            left += node.all_input_nodes
    return False
