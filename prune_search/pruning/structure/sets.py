"""The sets of units of a captured network: which places of its parameters go together."""

from __future__ import annotations

import math
import operator
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from prune_search.pruning.mask.dependency_groups import Channels, Claim
from prune_search.pruning.structure.analysis import Analysis, skipped
from prune_search.pruning.structure.labels import FIXED, Ids

CONVOLUTIONS = frozenset(("conv1d", "conv2d", "conv3d"))
LINEAR = CONVOLUTIONS | {"linear", "addmm", "mm", "matmul", "bmm", "einsum", "_grouped_mm", "grouped_mm_fallback"}
LOOKUPS = frozenset(("embedding", "embedding_bag", "index", "index_select"))
BESIDE, HELD, READER, WEIGHT, DEPTHWISE, SCALE = "beside", "held", "reader", "weight", "depthwise", "scale"
MAKES = (WEIGHT, DEPTHWISE, HELD, SCALE)
COMPUTED = "what its layer uses is computed from it, so that its units are not known"
HEAD, NEURON, WIDTH, ATTENDED = "head", "neuron", "width", "attended"
# The kinds of units of transformers, in words.
KINDS = {HEAD: "attention heads", NEURON: "hidden neurons of an MLP", WIDTH: "dimensions of a residual stream"}


@dataclass(frozen=True, eq=False)
class Places:
    """The places along a dimension of a tensor that some units own.

    Attributes:
        target: the graph's name for the tensor.
        dimension: of the tensor.
        index: the places, [units, places of a unit].
        role: what they are to the units.
    """

    target: str
    dimension: int
    index: Ids
    role: str


@dataclass(frozen=True, eq=False)
class Units:
    """Units of one kind: they own equally many places of the same tensors.

    Attributes:
        classes: of labels, one per unit, in the order of their places.
        places: what they own.
        contracted: whether a sum with computed weights, or a statistic, runs over them.
        kind: of `KINDS`; `ATTENDED`: features of attention whose heads are not told apart; or empty.
    """

    classes: Ids
    places: tuple[Places, ...]
    contracted: bool
    kind: str = ""

    def having(self, *roles: str) -> list[Places]:
        """What they own in some roles."""
        return [one for one in self.places if one.role in roles]


def units_of(analysis: Analysis) -> list[Units]:
    """The units of a network, sets of one kind each, in the order of its tensors."""
    owned: dict[int, dict[tuple[str, int], list[int]]] = {}
    for target, dims in analysis.tensors.items():
        for dimension, ids in enumerate(dims):
            classes = analysis.classes[ids]
            for place in np.nonzero(classes != FIXED)[0].tolist():
                mine = owned.setdefault(int(classes[place]), {})
                mine.setdefault((target, dimension), []).append(place)
    kinds: dict[tuple[tuple[tuple[str, int], int], ...], list[int]] = {}
    for label, mine in owned.items():
        kinds.setdefault(tuple((key, len(places)) for key, places in sorted(mine.items())), []).append(label)
    contracted = [np.unique(analysis.classes[ids]) for ids in analysis.notes.contracted]
    summed = set(np.concatenate(contracted).tolist()) if contracted else set()
    found = []
    marks = _marks(analysis)
    attended = _classes(analysis, analysis.notes.attended)
    for kind, labels in kinds.items():
        places = tuple(
            Places(*key, np.array([owned[label][key] for label in labels]), _role(analysis, *key)) for key, _ in kind
        )
        named = next((name for name, some in marks.items() if any(label in some for label in labels)), "")
        if not named and not attended.isdisjoint(labels):
            named = ATTENDED
        elif not named and _between_linear(analysis, places):
            named = NEURON
        found.append(Units(np.array(labels), places, any(label in summed for label in labels), named))
    return found


def _marks(analysis: Analysis) -> dict[str, set[int]]:
    """The classes of heads, and of the width of residual streams: what a skip connection adds, or a norm counts."""
    notes = analysis.notes
    wide = skipped(analysis.captured, notes)
    # Where the width of a stream cannot go, what a norm counts is hidden within a branch.
    wide += [one.ids for one in notes.statistics if notes.widths]
    return {name: _classes(analysis, some) for name, some in {HEAD: notes.heads, WIDTH: wide}.items()}


def _classes(analysis: Analysis, some: Sequence[Ids]) -> set[int]:
    """The classes of some labels, but for those that stay."""
    return set(np.unique(analysis.classes[np.concatenate(some)]).tolist()) - {FIXED} if some else set()


def _between_linear(analysis: Analysis, places: Sequence[Places]) -> bool:
    """Whether units are made and read by linear layers, or by 1x1 convolutions, only."""
    linear = []
    for one in places:
        if one.role in (WEIGHT, READER):
            shape = operator.attrgetter(one.target)(analysis.captured.graph).shape
            users = analysis.notes.users.get(one.target, set())
            linear.append(users <= LINEAR and (users.isdisjoint(CONVOLUTIONS) or math.prod(shape[2:]) == 1))
    roles = {one.role for one in places}
    return bool(linear) and all(linear) and {WEIGHT, READER} <= roles


def _role(analysis: Analysis, target: str, dimension: int) -> str:
    """What a dimension of a tensor is to units: what the rules say; a parameter else is held, and a buffer beside."""
    said = analysis.notes.roles.get((target, dimension))
    tensor = operator.attrgetter(target)(analysis.captured.graph)
    if not isinstance(tensor, torch.nn.Parameter):
        return BESIDE if said != READER else READER
    return said or HELD


def channels_in(analysis: Analysis, prunable: frozenset[str]) -> Iterator[tuple[Channels, Units]]:
    """The sets of units that some prunable weight makes, as `Channels`.

    Args:
        analysis: of the network.
        prunable: names of its prunable weights.
    """
    names = analysis.captured.names
    looked_up_in = {names[target] for target, users in analysis.notes.users.items() if users & LOOKUPS}
    read = {(names[target], at) for target, at in analysis.notes.reads if names[target] in looked_up_in}
    for units in units_of(analysis):
        claims: dict[tuple[str, int], Claim] = {}
        beside: dict[tuple[str, int], Claim] = {}
        for one in units.places:
            name = names[one.target]
            # An embedding that is tied to the output layer is read there, and makes no outputs of a layer.
            looked_up = one.role == WEIGHT and (name not in prunable or (name, one.dimension) in read)
            role = HELD if looked_up else one.role
            kept = beside if role == BESIDE else claims
            kept.setdefault((name, one.dimension), Claim(name, role, one.dimension, torch.from_numpy(one.index), None))
        if any(claim.role == WEIGHT for claim in claims.values()):
            yield Channels(len(units.classes), tuple(claims.values()), tuple(beside.values())), units


def stays_whole(analysis: Analysis, prunable: frozenset[str]) -> dict[str, str]:
    """Prunable weights none of whose outputs can go, and why."""
    reasons: dict[str, str] = {}
    for target, dims in analysis.tensors.items():
        name = analysis.captured.names[target]
        if name not in prunable:
            continue
        makes = [at for at in range(len(dims)) if analysis.notes.roles.get((target, at)) in (WEIGHT, DEPTHWISE)]
        if not makes and (target, 0) not in analysis.notes.roles:
            # What a layer computes from its weight is another tensor: the outputs that it makes are not known.
            reasons.setdefault(name, next(filter(None, (analysis.reason(ids) for ids in dims)), COMPUTED))
        if makes and not any(analysis.classes[dims[at]].any() for at in makes):
            reasons[name] = analysis.reason(dims[makes[0]])
    return reasons
