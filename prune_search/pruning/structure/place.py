"""A node of a graph as its rule sees it: arguments by name, labels of its tensors, and what the rule notes."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import fx

from prune_search.pruning.structure.labels import FIXED, Dims, Ids, Labels, fixed, same_everywhere
from prune_search.pruning.structure.moved import dimension_before
from prune_search.pruning.structure.values import Shape

# Several tensors, or what is no tensor.
Given = Dims | list[Any] | None
_MOVES: dict[str, Callable[[Any, int, int], int]] = {}


@dataclass(frozen=True, eq=False)
class Edit:
    """A size in the arguments of a node, which becomes the number of places that stay.

    Attributes:
        node: whose argument it is.
        argument: its name.
        at: which of a list; None where it is one number.
        ids: labels of the places that it counts.
    """

    node: fx.Node
    argument: str
    at: int | None
    ids: Ids


@dataclass(eq=False)
class Site:
    """A dimension that is split into several, of which one can lose places.

    Attributes:
        candidates: of the new dimensions.
        ids: labels of the one that was chosen.
    """

    candidates: list[int]
    ids: Ids


@dataclass(frozen=True, eq=False)
class Statistic:
    """A normalization, or a mean, over places of which some can go: it goes on counting them, as zeros.

    Attributes:
        node: the operation.
        ids: labels of the places that it counts.
        why: why they have to stay, where they have to.
    """

    node: fx.Node
    ids: Ids
    why: str


@dataclass(frozen=True, eq=False)
class Joined:
    """Two tensors that are added, along one of their dimensions.

    Attributes:
        node: the addition.
        ids: labels of what it gives.
        first: of one term.
        second: of the other.
        known: how many ties there were before it.
    """

    node: fx.Node
    ids: Ids
    first: Ids
    second: Ids
    known: int


@dataclass(eq=False)
class Notes:
    """What the rules find.

    Attributes:
        labels: of all places.
        edits: sizes that change with what goes.
        roles: by (attribute of the graph, dimension) what it is to units; see `units`.
        sites: dimensions that are split, by name of the node and number within it.
        choices: which candidate each of them takes; the first where nothing is said.
        contracted: labels of places over which values are summed with weights that are computed.
        unknown: operations without a rule.
        widths: whether places that a normalization takes its statistics over can go even from a residual stream.
        statistics: those normalizations.
        heads: labels of dimensions along which products of two computed tensors are taken side by side.
        attended: labels of the features of such products: what attention mixes over its positions.
        joined: additions of tensors of other labels.
        reads: dimensions of tensors that a sum runs over, as `roles` has them, whatever else they are.
        users: the operations that use a tensor in some role, by attribute of the graph.
    """

    labels: Labels = field(default_factory=Labels)
    edits: list[Edit] = field(default_factory=list)
    roles: dict[tuple[str, int], str] = field(default_factory=dict)
    sites: dict[tuple[str, int], Site] = field(default_factory=dict)
    choices: Mapping[tuple[str, int], int] = field(default_factory=dict)
    contracted: list[Ids] = field(default_factory=list)
    unknown: set[str] = field(default_factory=set)
    widths: bool = False
    statistics: list[Statistic] = field(default_factory=list)
    heads: list[Ids] = field(default_factory=list)
    attended: list[Ids] = field(default_factory=list)
    joined: list[Joined] = field(default_factory=list)
    reads: set[tuple[str, int]] = field(default_factory=set)
    users: dict[str, set[str]] = field(default_factory=dict)


@dataclass(eq=False)
class Place:
    """A node and what is around it.

    Attributes:
        node: the operation.
        shapes: what every node gives.
        dims: labels of what every node before gives.
        notes: to write to.
        arguments: by name, with the operation's defaults.
    """

    node: fx.Node
    shapes: Mapping[fx.Node, Shape]
    dims: Mapping[fx.Node, Given]
    notes: Notes
    arguments: dict[str, Any] = field(init=False)

    def __post_init__(self) -> None:
        """Name the arguments."""
        self.arguments = arguments_of(self.node)

    @property
    def labels(self) -> Labels:
        """The labels of all places."""
        return self.notes.labels

    @property
    def name(self) -> str:
        """The operation in words."""
        return name_of(self.node)

    @property
    def output(self) -> tuple[int, ...]:
        """The output's sizes."""
        found = self.shapes[self.node]
        if not isinstance(found, tuple):
            raise TypeError(f"{self.name} gives more than one tensor")
        return found

    def has(self, argument: str) -> bool:
        """Whether a tensor was given."""
        return isinstance(self.arguments.get(argument), fx.Node)

    def tensor(self, argument: str) -> Dims:
        """The labels of a tensor argument."""
        return self.of(self.arguments[argument])

    def of(self, node: Any) -> Dims:
        """The labels of a node's tensor."""
        found = self.dims[node]
        if not isinstance(found, list):
            raise TypeError(f"{node} is not a tensor")
        return list(found)

    def shape(self, argument: str) -> tuple[int, ...]:
        """The sizes of a tensor argument."""
        found = self.shapes[self.arguments[argument]]
        if not isinstance(found, tuple):
            raise TypeError(f"{argument} is not a tensor")
        return found

    def is_mask(self, node: fx.Node) -> bool:
        """Whether a node gives truth values."""
        return getattr(node.meta.get("val"), "dtype", None) in (torch.bool, torch.uint8)

    def number(self, value: Any) -> Any:
        """A number that is written down or computed."""
        return self.shapes[value] if isinstance(value, fx.Node) else value

    def numbers(self, argument: str) -> list[int]:
        """A list of numbers."""
        value = self.arguments[argument]
        return [self.number(one) for one in (value if isinstance(value, list | tuple) else [value])]

    def axis(self, argument: str, rank: int) -> int:
        """A dimension, counted from the front."""
        return int(self.number(self.arguments[argument])) % max(1, rank)

    def axes(self, argument: str, rank: int) -> list[int]:
        """Some dimensions, counted from the front; all where none are said."""
        value = self.arguments.get(argument)
        if value is None or value == []:
            return list(range(rank))
        return [int(one) % max(1, rank) for one in self.numbers(argument)]

    def fix(self, ids: Ids, why: str = "") -> None:
        """Some places cannot go."""
        self.labels.fix(ids, why or f"{self.name} runs over its units")

    def tie(self, first: Ids, second: Ids, why: str = "") -> Ids:
        """Places that go together."""
        return self.labels.tie(first, second, why or f"{self.name} ties its units to what stays")

    def tie_all(self, lines: Ids) -> Ids:
        """The labels of places [places, alike] of which those that are alike go together, [places]."""
        first = lines[:, 0]
        for column in range(1, lines.shape[1]):
            first = self.tie(first, lines[:, column])
        return first

    def count(self, ids: Ids, why: str) -> None:
        """A statistic is taken over some places: it goes on counting those that went (see `analysis.keep_streams`)."""
        if ids.any():
            self.notes.statistics.append(Statistic(self.node, ids, why))
            self.notes.contracted.append(ids)

    def beside(self, dims: Dims, made: Sequence[Ids] = ()) -> None:
        """Along some dimensions products of two computed tensors are taken side by side, as attention heads are.

        Args:
            dims: these.
            made: the rows and columns of a product.
        """
        self.notes.heads.extend(ids for ids in dims if ids.any())
        self.notes.attended.extend(ids for ids in made if ids.any())

    def read(self, argument: Any, dim: int) -> None:
        """The places along a dimension of a weight are what a sum runs over."""
        if not self.role(argument, dim, "reader"):
            found = self.arguments[argument] if isinstance(argument, str) else argument
            self.notes.contracted.append(self.of(found)[dim])

    def role(self, argument: Any, dim: int, role: str) -> bool:
        """What a dimension of a tensor of the network is to units; False where the argument is computed."""
        found = self.arguments.get(argument) if isinstance(argument, str) else argument
        while isinstance(found, fx.Node) and found.op == "call_function":
            before = dimension_before(found, name_of(found), dim, self.shapes)
            if before is None:
                return False
            found, dim = found.args[0], before
        if not isinstance(found, fx.Node) or found.op != "get_attr":
            return False
        self.notes.roles.setdefault((str(found.target), dim), role)
        if role == "reader":
            self.notes.reads.add((str(found.target), dim))
        self.notes.users.setdefault(str(found.target), set()).add(self.name)
        return True

    def edit(self, argument: str, ids: Ids, at: int | None = None) -> None:
        """A size that is written down becomes the number of places of `ids` that stay."""
        if ids.any():
            self.notes.edits.append(Edit(self.node, argument, at, ids))

    def edit_sizes(self, argument: str, dims: Sequence[Ids]) -> None:
        """The sizes of the output, where they are written down."""
        for at, ids in enumerate(dims):
            self.edit(argument, ids, at)

    def split(self, ids: Ids, number: int = 0) -> Dims:
        """The labels of a dimension that is seen as several: one of them can lose places, the others stay.

        Args:
            ids: labels [a, b, …] of the places.
            number: which split of this node it is.
        """
        dims = [fixed(size) for size in ids.shape]
        if not ids.any():
            return dims
        wide = [axis for axis, size in enumerate(ids.shape) if size > 1]
        alike = [axis for axis in wide if same_everywhere(ids, axis)]
        candidates = alike[:1] or wide
        site = self.notes.choices.get((self.node.name, number), 0) % len(candidates)
        axis = candidates[site]
        lines = np.moveaxis(ids, axis, 0).reshape(ids.shape[axis], -1)
        dims[axis] = lines[:, 0] if alike else self.tie_all(lines)
        self.notes.sites[self.node.name, number] = Site(candidates, dims[axis])
        return dims

    def merge(self, dims: Sequence[Ids]) -> Ids:
        """The labels of several dimensions seen as one: those of the first that has any, the others cannot go."""
        sizes = [ids.size for ids in dims]
        own = [at for at, ids in enumerate(dims) if ids.any()]
        if not own:
            return fixed(math.prod(sizes))
        for at in own[1:]:
            self.fix(dims[at], f"{self.name} merges it with another dimension that has units")
        at = own[0]
        shape = [size if place == at else 1 for place, size in enumerate(sizes)]
        return np.broadcast_to(dims[at].reshape(shape), sizes).reshape(-1).copy()


def name_of(node: fx.Node) -> str:
    """The name of an operation, without its variant."""
    target: Any = node.target
    if isinstance(target, torch._ops.OpOverload):
        own = target._opname
        return own if own.startswith("__") or own == "_" else own.removesuffix("_")
    return str(getattr(target, "__name__", target))


def arguments_of(node: fx.Node) -> dict[str, Any]:
    """The arguments of an operation by name, with its defaults; of one without a schema those that are named."""
    schema = getattr(node.target, "_schema", None)
    named = {one.name: one.default_value for one in schema.arguments} if schema is not None else {}
    return {**named, **dict(zip(named, node.args, strict=False)), **node.kwargs}


def free(dims: Dims) -> bool:
    """Whether some place of a tensor may go."""
    return any(bool((ids != FIXED).any()) for ids in dims)
