"""The points at which a space is checked: its corners and some random ones."""

from __future__ import annotations

import math
import random
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

T = TypeVar("T")

# A space of more samples than this is checked at the first of them only; what lies beyond is found when it is drawn.
MAX_CORNERS = 5000


@dataclass
class Corner:
    """Draws the first option of every choice and the lower end of every range, but where something else is forced.

    Attributes:
        forced: name to the index of an option, or 1 for the upper end of a range.
        seen: name to the number of options, or 2 for a range.
    """

    forced: Mapping[str, int]
    seen: dict[str, int] = field(default_factory=dict)

    def choice(self, name: str, labels: tuple[str, ...]) -> int:
        """The index of one of `labels`."""
        self.seen[name] = len(labels)
        return self.forced.get(name, 0)

    def uniform(self, name: str, low: float, high: float, log: bool, step: float | None) -> float:
        """One end of a range of real numbers."""
        self.seen[name] = 2
        if not self.forced.get(name):
            return low
        return low + step * math.floor((high - low) / step) if step else high

    def integer(self, name: str, low: int, high: int, log: bool, step: int) -> int:
        """One end of a range of whole numbers."""
        self.seen[name] = 2
        return high - (high - low) % step if self.forced.get(name) else low


@dataclass(frozen=True)
class AtRandom:
    """Draws from a random number generator."""

    rng: random.Random

    def choice(self, name: str, labels: tuple[str, ...]) -> int:
        """The index of one of `labels`."""
        return self.rng.randrange(len(labels))

    def uniform(self, name: str, low: float, high: float, log: bool, step: float | None) -> float:
        """A real number from `low` to `high`."""
        if step:
            return min(low + step * self.rng.randint(0, math.floor((high - low) / step)), high)
        share = self.rng.random()
        return min(max(low * (high / low) ** share if log else low + share * (high - low), low), high)

    def integer(self, name: str, low: int, high: int, log: bool, step: int) -> int:
        """A whole number from `low` to `high`."""
        if log:
            drawn = low * math.pow(high / low, self.rng.random())
            return min(max(round(drawn), low), high)
        return low + step * self.rng.randint(0, (high - low) // step)


class Drawing(Protocol):
    """Who draws (see `holes.Draw`)."""

    def choice(self, name: str, labels: tuple[str, ...]) -> int: ...
    def uniform(self, name: str, low: float, high: float, log: bool, step: float | None) -> float: ...
    def integer(self, name: str, low: int, high: int, log: bool, step: int) -> int: ...


@dataclass(frozen=True)
class Given:
    """Draws given values, and what is not given as somebody else does.

    Attributes:
        values: by the sampler's names, as `begin.Beginning` has them.
        rest: draws the others.
    """

    values: Mapping[str, Any]
    rest: Drawing

    def choice(self, name: str, labels: tuple[str, ...]) -> int:
        """The index of one of `labels`."""
        return labels.index(self.values[name]) if name in self.values else self.rest.choice(name, labels)

    def uniform(self, name: str, low: float, high: float, log: bool, step: float | None) -> float:
        """A real number."""
        return float(self.values[name]) if name in self.values else self.rest.uniform(name, low, high, log, step)

    def integer(self, name: str, low: int, high: int, log: bool, step: int) -> int:
        """A whole number."""
        return int(self.values[name]) if name in self.values else self.rest.integer(name, low, high, log, step)


def space_samples(fill: Callable[[Any], T]) -> Iterator[T]:
    """Points at which every option of every choice, and both ends of every range, stand once, conditional ones too.

    Args:
        fill: makes a point from who draws.
    """
    waiting: deque[dict[str, int]] = deque([{}])
    known: set[str] = set()
    for _ in range(MAX_CORNERS):
        if not waiting:
            return
        draw = Corner(waiting.popleft())
        yield fill(draw)
        for name, count in draw.seen.items():
            if name not in known:
                known.add(name)
                waiting.extend({**draw.forced, name: index} for index in range(1, count))
