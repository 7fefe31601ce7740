"""Fills the holes of a space: from an Optuna trial, or by walking a grid."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from functools import lru_cache
from typing import Any, Protocol

import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
    distribution_to_json,
    json_to_distribution,
)

# A range of whole numbers (or of steps) that holds more values is taken by a grid as if it were continuous.
MAX_LISTED = 100
# Steps finer than floating point tells apart are none.
MAX_STEPS = 10**15


def steps_in(low: float, high: float, step: float | None) -> int | None:
    """How many whole steps fit between low and high, in decimal as they are written; None where it is continuous.

    Optuna sees a range of real numbers with a step as the number of the step: its own kind of such a range warns where
    the range is no multiple of the step, and takes some of its own values for foreign ones.
    """
    if step is None or (high - low) / step > MAX_STEPS:
        return None
    return int((Decimal(str(high)) - Decimal(str(low))) // Decimal(str(step)))


def at_step(low: float, step: float | None, place: int) -> float:
    """The value at a step.

    Example:
        >>> at_step(0.1, 0.1, 2)
        0.3
    """
    return float(Decimal(str(low)) + Decimal(str(step or 0.0)) * place)


def whole_of(low: int, high: int, log: bool, step: int) -> IntDistribution:
    """A range of whole numbers, which ends at the last step that fits."""
    return IntDistribution(low, high - (high - low) % step, log=log, step=step)


@dataclass(frozen=True)
class TrialDraw:
    """An Optuna trial that was asked for. Draws the same kinds under the same names as `GridDraw`."""

    trial: optuna.Trial

    def choice(self, name: str, labels: tuple[str, ...]) -> int:
        """The index of one of `labels`, which are what is recorded: they survive JSON."""
        return labels.index(self.trial.suggest_categorical(name, labels))

    def uniform(self, name: str, low: float, high: float, log: bool, step: float | None) -> float:
        """A real number from `low` to `high`."""
        steps = steps_in(low, high, step)
        if steps is not None:
            return at_step(low, step, self.trial.suggest_int(name, 0, steps))
        return self.trial.suggest_float(name, low, high, log=log)

    def integer(self, name: str, low: int, high: int, log: bool, step: int) -> int:
        """A whole number from `low` to `high`."""
        fits = whole_of(low, high, log, step)
        return self.trial.suggest_int(name, fits.low, fits.high, log=log, step=step)


def remembered(
    params: Mapping[str, Any], distributions: Mapping[str, BaseDistribution], system: Mapping[str, Any]
) -> dict[str, Any]:
    """What the record of a proposal keeps for the sampler: plain JSON data."""
    written = {name: distribution_to_json(distribution) for name, distribution in distributions.items()}
    return {"params": dict(params), "distributions": written, "system": dict(system)}


@lru_cache(maxsize=4096)
def distribution_from(written: str) -> BaseDistribution:
    """A distribution as a record keeps it."""
    return json_to_distribution(written)


@dataclass(frozen=True)
class Grid:
    """The sampler that proposes every point of a grid in turn, and needs no results.

    Attributes:
        points: values of a continuous hole, spread evenly (on a log scale by equal factors) from low to high.
    """

    points: int


def spread(low: float, high: float, log: bool, points: int) -> list[float]:
    """`points` values from low to high, both included; the middle where there is only one.

    Example:
        >>> spread(0.0, 1.0, False, 3)
        [0.0, 0.5, 1.0]
    """
    shares = [place / (points - 1) for place in range(points)] if points > 1 else [0.5]
    values = [low * (high / low) ** share if log else low + (high - low) * share for share in shares]
    # Twelve digits read well; rounded, a value must not lie past the bounds.
    values = [min(max(float(f"{value:.12g}"), low), high) for value in values]
    if points > 1:
        values[0], values[-1] = low, high
    return list(dict.fromkeys(values))


@dataclass(frozen=True)
class Range:
    """A continuous range of real numbers, both ends included."""

    low: float
    high: float
    log: bool


@dataclass(frozen=True)
class PinnedDraw:
    """Draws given values.

    Attributes:
        params: by the sampler's names, as `GridDraw.params` has them.
    """

    params: Mapping[str, Any]

    def choice(self, name: str, labels: tuple[str, ...]) -> int:
        """The index of one of `labels`."""
        return labels.index(self.params[name])

    def uniform(self, name: str, low: float, high: float, log: bool, step: float | None) -> float:
        """A real number, or the one at a given step."""
        value = self.params[name]
        return float(value) if steps_in(low, high, step) is None else at_step(low, step, value)

    def integer(self, name: str, low: int, high: int, log: bool, step: int) -> int:
        """A whole number."""
        return int(self.params[name])


class Rest(Protocol):
    """Who draws what is not given."""

    def choice(self, name: str, labels: tuple[str, ...]) -> int: ...
    def uniform(self, name: str, low: float, high: float, log: bool, step: float | None) -> float: ...
    def integer(self, name: str, low: int, high: int, log: bool, step: int) -> int: ...


@dataclass
class GivenDraw:
    """Draws the values of a recipe that is tried first, and what it does not say as somebody else does.

    Attributes:
        values: by the sampler's names, numbers in the unit of the hole (see `begin.Beginning`).
        rest: draws the others.
        params: what was given, as the sampler knows it.
        distributions: of what it was drawn.
    """

    values: Mapping[str, Any]
    rest: Rest
    params: dict[str, Any] = field(default_factory=dict)
    distributions: dict[str, BaseDistribution] = field(default_factory=dict)

    def choice(self, name: str, labels: tuple[str, ...]) -> int:
        """The index of one of `labels`."""
        if name not in self.values:
            return self.rest.choice(name, labels)
        self._note(name, self.values[name], CategoricalDistribution(labels))
        return labels.index(self.values[name])

    def uniform(self, name: str, low: float, high: float, log: bool, step: float | None) -> float:
        """A real number from `low` to `high`."""
        if name not in self.values:
            return self.rest.uniform(name, low, high, log, step)
        value, steps = float(self.values[name]), steps_in(low, high, step)
        if steps is None:
            self._note(name, value, FloatDistribution(low, high, log=log))
            return value
        place = round((value - low) / (step or 1.0))
        self._note(name, place, IntDistribution(0, steps))
        return at_step(low, step, place)

    def integer(self, name: str, low: int, high: int, log: bool, step: int) -> int:
        """A whole number from `low` to `high`."""
        if name not in self.values:
            return self.rest.integer(name, low, high, log, step)
        self._note(name, int(self.values[name]), whole_of(low, high, log, step))
        return int(self.values[name])

    def _note(self, name: str, value: Any, distribution: BaseDistribution) -> None:
        self.params[name] = value
        self.distributions[name] = distribution


@dataclass
class GridDraw:
    """Draws one point of a grid.

    Attributes:
        points: values of a continuous hole.
        digits: index of the value of each hole, in the order of drawing; the first value of those that come after.
        sizes: number of values of each hole that was drawn.
        params: what was drawn, by the sampler's names.
        distributions: of what it was drawn.
    """

    points: int
    digits: Sequence[int] = ()
    sizes: list[int] = field(default_factory=list)
    params: dict[str, Any] = field(default_factory=dict)
    distributions: dict[str, BaseDistribution] = field(default_factory=dict)

    def choice(self, name: str, labels: tuple[str, ...]) -> int:
        """The index of one of `labels`."""
        return labels.index(self._next(name, labels, CategoricalDistribution(labels)))

    def uniform(self, name: str, low: float, high: float, log: bool, step: float | None) -> float:
        """One of the values of a range of real numbers: all of them where it has a step."""
        steps = steps_in(low, high, step)
        if steps is not None:
            return at_step(low, step, self.integer(name, 0, steps, False, 1))
        return float(self._next(name, spread(low, high, log, self.points), FloatDistribution(low, high, log=log)))

    def integer(self, name: str, low: int, high: int, log: bool, step: int) -> int:
        """One of the values of a range of whole numbers: all of them, or a few of a long range."""
        fits = whole_of(low, high, log, step)
        values = [low + step * place for place in self._places((fits.high - low) // step + 1)]
        if log and fits.high - low >= MAX_LISTED:
            values = list(dict.fromkeys(round(value) for value in spread(low, fits.high, True, self.points)))
        return int(self._next(name, values, fits))

    def _places(self, count: int) -> list[int]:
        if count <= MAX_LISTED:
            return list(range(count))
        return list(dict.fromkeys(round(place) for place in spread(0.0, count - 1.0, False, self.points)))

    def _next(self, name: str, values: Sequence[Any], distribution: BaseDistribution) -> Any:
        place = len(self.sizes)
        value = values[self.digits[place] if place < len(self.digits) else 0]
        self.sizes.append(len(values))
        self.params[name] = value
        self.distributions[name] = distribution
        return value

    def ranges(self) -> dict[str, Range]:
        """The continuous holes that were drawn, by name."""
        found = self.distributions.items()
        return {name: Range(d.low, d.high, d.log) for name, d in found if isinstance(d, FloatDistribution)}

    def following(self) -> tuple[int, ...] | None:
        """The digits of the point after this one, like an odometer: the hole drawn last turns first."""
        drawn = [*self.digits, *[0] * (len(self.sizes) - len(self.digits))]
        for place in reversed(range(len(self.sizes))):
            if drawn[place] + 1 < self.sizes[place]:
                return (*drawn[:place], drawn[place] + 1)
        return None


def walk(points: int, fill: Callable[[GridDraw], Any]) -> Iterator[tuple[Any, GridDraw]]:
    """Every point of a space's grid in a fixed order, and how it was drawn.

    What is drawn can decide which holes there are: only those that a point has are turned.

    Args:
        points: values of a continuous hole.
        fill: makes a point from who draws.
    """
    digits: tuple[int, ...] | None = ()
    while digits is not None:
        draw = GridDraw(points, digits)
        yield fill(draw), draw
        digits = draw.following()
