"""What tells networks apart: where a recipe's places lie on the clock, how sparse it gets, and its other choices."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy
from numpy.typing import NDArray

from prune_search.recipe.clock import Timeline
from prune_search.recipe.recipe import Recipe
from prune_search.search.expected_error import expected_error, mean_rate, taken_at
from prune_search.search.guided.candidates import Candidate
from prune_search.search.guided.kernel import Array, Nodes

# Holes that say what the places, the lengths and the depth say already.
SAID = ("any", "mask.at", "mask.sparsity", "weights.at", "retrain.steps", "retrain.until", "retrain.clock", "rounds")
# Numbers of one sign that span such a factor are compared by their logarithms.
WIDE = 10.0
# Error of the dense network after a long training, as the prior has it; its level is learned.
DENSE_ERROR = 0.06
# About half an example of a validation split; errors below it are all alike.
FLOOR = 0.003
# The least density that is told apart, and the depth of a network whose density is decided in the trial.
SPARSEST = 1e-4
# Depths that are told apart where a common level is taken off.
LEVELS = 24


@dataclass(frozen=True)
class Network:
    """One network of a recipe: at the end of a round, or in the middle of the last retraining.

    Attributes:
        owner: the recipe's digest.
        numbers: by name; those of holes as they were drawn.
        kinds: by name.
        density: nominal kept share; None where it is decided in the trial.
        prior: expected -log(error).
        spent: logarithm of the steps up to it, from nothing.
    """

    owner: str
    numbers: Mapping[str, float]
    kinds: Mapping[str, str]
    density: float | None
    prior: float
    spent: float


@dataclass(frozen=True)
class _Round:
    """A round, as the expected error takes it."""

    recipe: Recipe
    timeline: Timeline
    number: int
    density: float
    removed: float


def densities(one: Candidate) -> list[float | None]:
    """The nominal kept share after each round; None where it is decided in the trial."""
    return [None if item.share is None else float(item.share) for item in one.branch.rounds]


def network(one: Candidate, number: int, done: float = 1.0) -> Network:
    """The network of a round.

    Args:
        one: the recipe.
        number: of the round, from 1.
        done: share of its retraining, 0 … 1.
    """
    line, recipe, shares = one.timeline, one.recipe, densities(one)
    density = shares[number - 1]
    before = (shares[number - 2] if number > 1 else 1.0) or 1.0
    removed = 0.0 if density is None else max(0.0, 1 - density / before)
    round_ = _Round(recipe, line, number, density if density is not None else 0.1, removed)
    heat, total = mean_rate(round_), max(1, line.total)
    numbers = {
        "found at": line.k1 / total,
        "taken at": taken_at(round_),
        "clock": 1.0 if line.clock is None else line.clock / total,
        "length": line.retrain_steps / total,
        "heat": heat,
        "removed": removed,
        "done": done,
    }
    numbers |= {name: float(value) for name, value in one.params.items() if _is_number(value) and not _said(name)}
    kinds = {name: str(value) for name, value in one.params.items() if not _is_number(value) and not _said(name)}
    dynamics = None if recipe.retrain is None else recipe.retrain.dynamics
    kinds |= {
        "option": one.option,
        "criterion": recipe.mask.criterion.name,
        "scope": recipe.mask.scope.name,
        "granularity": recipe.mask.granularity.name,
        "dynamics": "" if dynamics is None else dynamics.name,
    }
    error = expected_error(round_, DENSE_ERROR, heat)[1]
    steps = one.branch.train.needed + sum(
        vertex.needed for item in one.branch.rounds[:number] for vertex in item.vertices()
    )
    spent = math.log(max(1.0, steps - (1 - done) * line.retrain_steps))
    return Network(one.digest, numbers, kinds, density, -math.log(error + FLOOR), spent)


@dataclass(frozen=True)
class Column:
    """A number of networks, on 0 … 1 over those that a frame is made of; elsewhere it can lie beyond.

    Attributes:
        name: of the number.
        low: the least, and …
        span: … how far the largest lies from it; both are logarithms where `wide`.
        wide: whether it is of one sign and spans a large factor.
        distinct: the values that there are, scaled, in their order.
    """

    name: str
    low: float
    span: float
    wide: bool
    distinct: Array

    @classmethod
    def of(cls, name: str, values: Iterable[float | None]) -> Column:
        """From the values of all networks."""
        known = [value for value in values if value is not None]
        low, high = min(known), max(known)
        wide = low > 0 and high / low >= WIDE
        low, high = (math.log(low), math.log(high)) if wide else (low, high)
        one = cls(name, low, (high - low) or 1.0, wide, numpy.empty(0))
        return replace(one, distinct=numpy.unique(numpy.round(one.scaled(known), 9)))

    def scaled(self, values: Sequence[float | None]) -> Array:
        """Of networks; one that has no such number stands in the middle."""
        least = math.exp(self.low) if self.wide else 0.0
        return numpy.array([0.5 if v is None else (self._log(v, least) - self.low) / self.span for v in values])

    def _log(self, value: float, least: float) -> float:
        return math.log(value if value > 0 else least) if self.wide else value

    def ranked(self, scaled: Array) -> Array:
        """By their places among the distinct values, 0 … 1."""
        places = numpy.linspace(0.0, 1.0, len(self.distinct))
        return numpy.asarray(numpy.interp(numpy.round(scaled, 9), self.distinct, places), dtype=numpy.float64)


@dataclass(frozen=True)
class Frame:
    """How networks become rows for the surrogate: it is made of all networks of a space, and does not change.

    Attributes:
        columns: numbers that differ.
        codes: of each choice that differs, the code of each kind.
        depth: -log(density) of the sparsest, and of the middle one, which stands for what is decided in the trial.
        levels: [l], depths at which networks are compared.
        expected: [l], mean of the prior there.
        spent: [l], mean there of the logarithm of the steps up to a network.
        prior: whether rows have a prior.
        networks: of which it is made.
    """

    columns: tuple[Column, ...]
    codes: Mapping[str, Mapping[str, int]]
    depth: tuple[float, float]
    levels: Array
    expected: Array
    spent: Array
    prior: bool
    networks: Sequence[Network] = field(default=(), repr=False)

    @classmethod
    def of(cls, networks: Sequence[Network], prior: bool) -> Frame:
        """The frame of networks."""
        numbers = {name: [one.numbers.get(name) for one in networks] for name in _names(n.numbers for n in networks)}
        kinds = {
            name: sorted({one.kinds.get(name, "") for one in networks}) for name in _names(n.kinds for n in networks)
        }
        known = [-math.log(max(one.density, SPARSEST)) for one in networks if one.density is not None]
        depth = (max(known, default=1.0) or 1.0, sorted(known)[len(known) // 2] if known else 0.0)
        columns = tuple(Column.of(name, values) for name, values in numbers.items() if len(set(values)) > 1)
        codes = {
            name: {kind: code for code, kind in enumerate(found)} for name, found in kinds.items() if len(found) > 1
        }
        frame = cls(columns, codes, depth, numpy.zeros(1), numpy.zeros(1), numpy.zeros(1), prior, networks)
        expected, spent = frame.means([one.prior for one in networks]), frame.means([one.spent for one in networks])
        return replace(frame, levels=levels_of(frame.depths(networks))[0], expected=expected, spent=spent)

    def means(self, values: Sequence[float] | Array) -> Array:
        """[l], means over the networks at each level of values, one for each network of which the frame is made."""
        place = levels_of(self.depths(self.networks))[1]
        return numpy.asarray(numpy.bincount(place, weights=values) / numpy.bincount(place), dtype=numpy.float64)

    def level(self, depth: Array) -> NDArray[numpy.int64]:
        """[n], at which of the levels networks of some depths are."""
        return numpy.asarray(numpy.abs(depth[:, None] - self.levels[None, :]).argmin(1), dtype=numpy.int64)

    def rows(self, networks: Sequence[Network]) -> Nodes:
        """The networks as rows; a number that only some have is 0.5, and a kind that is unknown is one of its own."""
        count = len(networks)
        numbers = [column.scaled([one.numbers.get(column.name) for one in networks]) for column in self.columns]
        ranked = [column.ranked(values) for column, values in zip(self.columns, numbers, strict=True)]
        kinds = [[codes.get(n.kinds.get(name, ""), -1) for n in networks] for name, codes in self.codes.items()]
        depth = self.depths(networks)
        at = self.level(depth)
        prior = numpy.array([one.prior for one in networks])
        return Nodes(
            numpy.array(numbers, dtype=numpy.float32).reshape(len(self.columns), count),
            numpy.array(ranked, dtype=numpy.float32).reshape(len(self.columns), count),
            numpy.array(kinds, dtype=numpy.int64).reshape(len(self.codes), count),
            depth,
            numpy.array([int(one.owner[:15], 16) for one in networks], dtype=numpy.int64),
            prior if self.prior else None,
            prior - self.expected[at],
            numpy.array([one.spent for one in networks]) - self.spent[at],
            numpy.zeros((0, count)),
            numpy.zeros((0, count)),
        )

    def depths(self, networks: Sequence[Network]) -> Array:
        """-log(density) over that of the sparsest, 0 … 1; one decided in the trial is as sparse as the middle one."""
        deepest, middle = self.depth
        found = [middle if one.density is None else -math.log(max(one.density, SPARSEST)) for one in networks]
        return numpy.array(found) / deepest


def levels_of(depth: Array) -> tuple[Array, NDArray[numpy.int64]]:
    """Depths at which networks are compared, and which of them each is at: few enough that several share one."""
    distinct, place = numpy.unique(numpy.round(depth, 9), return_inverse=True)
    if len(distinct) > LEVELS:
        distinct, place = numpy.unique(numpy.round(depth * LEVELS), return_inverse=True)
        distinct = distinct / LEVELS
    return distinct, place


def _names(given: Iterable[Mapping[str, Any]]) -> list[str]:
    return sorted({name for one in given for name in one})


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _said(name: str) -> bool:
    return any(name == one or name.startswith(f"{one}.") for one in SAID)
