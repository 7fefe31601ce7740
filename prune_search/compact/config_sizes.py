"""Finds the sizes in a transformers configuration that give a network the shapes of its compact form.

Nothing is known beforehand of any architecture. Every whole number of the configuration is set to another value, the
network is built without memory for its weights (on torch's meta device), and the shapes that changed say which
dimensions that value shapes, and by how much: size = slope · value + rest. The sizes of the compact tensors then give
the value back. Whether a configuration fits is seen by building it; whether it computes the same is for the caller.
"""

from __future__ import annotations

import copy
import itertools
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import torch
from torch import nn

Shapes = Mapping[str, tuple[int, ...]]
# A dimension of a tensor.
Dimension = tuple[str, int]
PROBED = 64
MAX_TRIES = 64
# Characters of what an architecture says against a configuration.
REASON = 200
_PLACE = re.compile(r"\.\d+\.")


class InexpressibleError(Exception):
    """No sizes of the configuration give these shapes; the text says why."""


@dataclass(frozen=True)
class Blocks:
    """A list of blocks of which some are gone.

    Attributes:
        name: of the list within the network, such as ``model.layers``.
        kept: the places of those that are left.
        count: of all of them.
    """

    name: str
    kept: tuple[int, ...]
    count: int


@dataclass(frozen=True)
class Fit:
    """A configuration under which a network has the shapes that were asked for.

    Attributes:
        config: the configuration.
        changed: the values of it that are others: before and after.
    """

    config: Any
    changed: Mapping[str, tuple[int, int]]


@dataclass(frozen=True)
class _Line:
    """What one value of the configuration shapes: size = slope · value + rest, by dimension."""

    name: str
    now: int
    lines: Mapping[Dimension, tuple[Fraction, Fraction]]

    def solved(self, shapes: Shapes) -> int | None:
        """The value that gives all these sizes; None where there is no such one."""
        found = {(shapes[name][dim] - rest) / slope for (name, dim), (slope, rest) in self.lines.items()}
        if len(found) != 1:
            return None
        (value,) = found
        return int(value) if value >= 1 and value.denominator == 1 else None


@dataclass
class Architecture:
    """A class of transformers with a configuration, and what its sizes shape.

    Attributes:
        kind: the class of the network.
        config: its configuration; values that are left out there and follow from others are filled in.
        idle: tensors that take no part in what it computes: their shapes are of no account.
        shapes: of all other tensors in its state dict.
        refused: why the last network could not be built; empty where it was.
    """

    kind: type[nn.Module]
    config: Any
    idle: frozenset[str] = frozenset()
    shapes: Shapes = field(init=False)
    refused: str = field(init=False, default="")

    def __post_init__(self) -> None:
        shapes = self.built(self.config, {})
        if shapes is None:
            raise InexpressibleError(f"{self.kind.__name__} cannot be built from its configuration alone")
        self.shapes = shapes
        for name, value in _plain(self.config).items():
            if value is None and not name.endswith("_id"):
                self._fill_in(name)

    def _fill_in(self, name: str) -> None:
        """Write down a size that the configuration leaves out, where it shapes some tensor."""
        low, high = (self.built(self.config, {name: probe}) for probe in (PROBED, 2 * PROBED))
        if low is None or high is None or low == high or not low.keys() == self.shapes.keys() == high.keys():
            return
        line = _Line(name, 0, _lines(low, PROBED, high, 2 * PROBED))
        value = line.solved(self.shapes)
        if value is not None and self.built(self.config, {name: value}) == self.shapes:
            self.config = with_values(self.config, {name: value})

    def built(self, config: Any, values: Mapping[str, object]) -> dict[str, tuple[int, ...]] | None:
        """The shapes of the network's tensors with some other values; None where it cannot be built so."""
        try:
            with torch.device("meta"):
                network = self.kind(with_values(config, values))
        except Exception as error:  # noqa: BLE001 - whatever an architecture raises of sizes that do not go together
            self.refused = " ".join(str(error).split())[:REASON]
            return None
        self.refused = ""
        idle = set(map(_pattern, self.idle))
        return {name: tuple(one.shape) for name, one in network.state_dict().items() if _pattern(name) not in idle}

    def sizes(self) -> list[_Line]:
        """Every whole number of the configuration that shapes a tensor."""
        found = []
        for name, value in _plain(self.config).items():
            if isinstance(value, bool) or not isinstance(value, int) or value < 1 or name.endswith("_id"):
                continue
            shapes = self.built(self.config, {name: 2 * value})
            if shapes is not None and shapes.keys() == self.shapes.keys() and shapes != self.shapes:
                found.append(_Line(name, value, _lines(self.shapes, value, shapes, 2 * value)))
        return found


def _pattern(name: str) -> str:
    """The name of a tensor without the places of the blocks that it lies in."""
    return _PLACE.sub(".*.", name)


def _lines(low: Shapes, at_low: int, high: Shapes, at_high: int) -> dict[Dimension, tuple[Fraction, Fraction]]:
    found = {}
    for name, shape in low.items():
        for dim, (one, other) in enumerate(zip(shape, high[name], strict=True)):
            if one != other:
                slope = Fraction(other - one, at_high - at_low)
                found[name, dim] = (slope, one - slope * at_low)
    return found


def _plain(config: Any) -> dict[str, Any]:
    plain: dict[str, Any] = config.to_dict()
    return plain


def with_values(config: Any, values: Mapping[str, object]) -> Any:
    """A configuration with some other values, read anew as from its file."""
    plain = {**copy.deepcopy(_plain(config)), **values}
    return type(config).from_dict(plain)


def blocks_left(before: Iterable[str], after: Iterable[str], innermost: bool = False) -> list[Blocks]:
    """The lists of blocks of which whole ones are gone.

    Args:
        before: names of tensors of the whole network.
        after: names of those that are left.
        innermost: whether what is gone with several lists counts as a block of the innermost one.

    Raises:
        InexpressibleError: parts of a block are gone, or what is no block.
    """
    left = set(after)
    gone = [name for name in before if name not in left]
    found: dict[str, set[int]] = {}
    for name in gone:
        lying = list(_places(name))
        for prefix, place in reversed(lying) if innermost else lying:
            if not any(other.startswith(f"{prefix}.{place}.") for other in left):
                found.setdefault(prefix, set()).add(place)
                break
        else:
            raise InexpressibleError(f"{name} was removed, but what surrounds it was not")
    lists = []
    for prefix, places in found.items():
        every = {at for name in before for inner, at in _places(name) if inner == prefix}
        lists.append(Blocks(prefix, tuple(sorted(every - places)), len(every)))
    return lists


def _places(name: str) -> Iterator[tuple[str, int]]:
    """The lists that a tensor lies in, the outermost first: the list's name and the place in it."""
    parts = name.split(".")
    for at, part in enumerate(parts):
        if part.isdigit() and at:
            yield ".".join(parts[:at]), int(part)


def renumbered(name: str, blocks: Sequence[Blocks]) -> str:
    """The name of a tensor where the blocks that are gone leave no gaps."""
    for one in blocks:
        if name.startswith(f"{one.name}."):
            place, _, rest = name[len(one.name) + 1 :].partition(".")
            if place.isdigit() and int(place) in one.kept:
                name = f"{one.name}.{one.kept.index(int(place))}.{rest}"
    return name


def fits(architecture: Architecture, after: Shapes, blocks: Sequence[Blocks] = ()) -> Iterator[Fit]:
    """The configurations under which the network has these shapes, those with the fewest other values first.

    There can be several: half of the heads, and heads of half the size, say, have the same shapes.

    Args:
        architecture: of the whole network.
        after: shapes of the compact tensors, by the whole network's names for them.
        blocks: the lists of blocks of which some are gone.

    Raises:
        InexpressibleError: there is none, since some size is not to be had, or the architecture refuses them together.
    """
    changed = {
        (name, dim)
        for name, shape in architecture.shapes.items()
        if name in after
        for dim, size in enumerate(shape)
        if size != after[name][dim]
    }
    sizes = [_Value(line.name, line.now, value, frozenset(line.lines)) for line, value in _solved(architecture, after)]
    counts = [
        _Value(name, one.count, len(one.kept), frozenset({(one.name, -1)}))
        for one in blocks
        for name, value in _plain(architecture.config).items()
        if value == one.count and not isinstance(value, bool)
    ]
    staged = list(_staged(architecture, blocks))
    wanted = {*changed, *((one.name, -1) for one in blocks)}
    covered = {dimension for value in (*sizes, *counts, *staged) for dimension in value.explains}
    if missing := wanted - covered:
        raise InexpressibleError(_why(architecture, missing, after))
    goal = {renumbered(name, blocks): shape for name, shape in after.items()}
    found, refused = False, ""
    for values in itertools.islice(_covering([*sizes, *counts, *staged], wanted), MAX_TRIES):
        given = _given(architecture.config, values)
        if any(one in counts for one in values):
            given.update(_shorter_lists(architecture.config, blocks))
        shapes = architecture.built(architecture.config, given)
        refused = refused or architecture.refused
        if shapes == goal:
            found = True
            yield Fit(with_values(architecture.config, given), {one.shown: (one.now, one.value) for one in values})
    if not found and refused:
        raise InexpressibleError(f"its class refuses the configuration with these sizes: {refused}")


@dataclass(frozen=True)
class _Value:
    """A value of the configuration, and the dimensions and lists that it makes as they are to be.

    Attributes:
        name: in the configuration.
        now: the value there.
        value: the one wanted.
        explains: what it makes so.
        place: in the list that the value stands in, such as the blocks of each stage; None where it is in none.
    """

    name: str
    now: int
    value: int
    explains: frozenset[Dimension]
    place: int | None = None

    @property
    def shown(self) -> str:
        """What it is called."""
        return self.name if self.place is None else f"{self.name}[{self.place}]"


def _staged(architecture: Architecture, blocks: Sequence[Blocks]) -> Iterator[_Value]:
    """Numbers in lists of the configuration, as of each stage's blocks, of which one more makes such a list longer."""
    for name, values in _plain(architecture.config).items() if blocks else ():
        if not isinstance(values, list) or not all(type(value) is int for value in values):
            continue
        for place, value in enumerate(values):
            if not any(one.count == value for one in blocks):
                continue
            longer = architecture.built(architecture.config, {name: [*values[:place], value + 1, *values[place + 1 :]]})
            new = {at for other in longer or () if other not in architecture.shapes for at in _places(other)}
            for one in blocks:
                if (one.name, one.count) in new and one.count == value:
                    yield _Value(name, value, len(one.kept), frozenset({(one.name, -1)}), place)


def _given(config: Any, values: Sequence[_Value]) -> dict[str, object]:
    """What a configuration is given with these values: a whole list, where a value is one of several in it."""
    plain = _plain(config)
    lists = {one.name: list(plain[one.name]) for one in values if one.place is not None}
    for one in values:
        if one.place is not None:
            lists[one.name][one.place] = one.value
    return {**{one.name: one.value for one in values}, **lists}


def _solved(architecture: Architecture, after: Shapes) -> Iterator[tuple[_Line, int]]:
    for line in architecture.sizes():
        within = {place: one for place, one in line.lines.items() if place[0] in after}
        value = _Line(line.name, line.now, within).solved(after) if within else None
        if value is not None and value != line.now:
            yield line, value


def _covering(values: Sequence[_Value], wanted: set[Dimension]) -> Iterator[tuple[_Value, ...]]:
    """Sets of values that explain all that is wanted, the smallest first."""
    for count in range(len(values) + 1):
        for chosen in itertools.combinations(values, count):
            if wanted <= set().union(*(one.explains for one in chosen)):
                yield chosen


def _shorter_lists(config: Any, blocks: Sequence[Blocks]) -> dict[str, object]:
    """The lists in a configuration that say something of every block, without those that are gone."""
    plain = _plain(config)
    return {
        name: [value[place] for place in one.kept]
        for one in blocks
        for name, value in plain.items()
        if isinstance(value, list) and len(value) == one.count
    }


def _why(architecture: Architecture, missing: set[Dimension], after: Shapes) -> str:
    """Why no value explains some sizes: blocks differ, or one value shapes others too that stayed."""
    names = list(architecture.shapes)
    name, dim = min(missing, key=lambda one: (names.index(one[0]) if one[1] >= 0 else -1, one))
    if dim < 0:
        return f"no value of the configuration sets the number of {name}"
    alike: dict[int, str] = {}
    for other, shape in after.items():
        if _pattern(other) == _pattern(name):
            alike.setdefault(shape[dim], other)
    if len(alike) > 1:
        told = ", ".join(f"{size} in {other}" for size, other in itertools.islice(alike.items(), 3))
        return f"its blocks differ in width ({told}), and the configuration has one size for all of them"
    before, now = architecture.shapes[name][dim], after[name][dim]
    only = f"changes dimension {dim} of {name} from {before} to {now} and leaves the rest unchanged"
    return f"no value of the configuration {only}"
