"""What recipes would still cost: the steps that they would add to the tree of shared training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy

from prune_search.search.guided.candidates import Candidate
from prune_search.search.guided.kernel import Array
from prune_search.search.guided.past import Past


@dataclass
class Prices:
    """Prices of recipes; what is stored is free, and of what is being trained half of the rest is paid.

    Segments and what the completed trials have stored are remembered between two calls: both only grow.
    """

    _places: dict[str, int] = field(default_factory=dict, repr=False)
    _segments: dict[str, tuple[list[int], list[int]]] = field(default_factory=dict, repr=False)
    _counted: set[str] = field(default_factory=set, repr=False)
    _done: Array = field(default_factory=lambda: numpy.zeros(0), repr=False)

    def of(self, recipes: Sequence[Candidate], past: Sequence[Past]) -> Array:
        """[recipes], steps that each would add.

        Args:
            recipes: that could be tried.
            past: the trials so far.
        """
        if not recipes:
            return numpy.zeros(0)
        segments = [self._of(one) for one in recipes]
        running = [self._of(one.candidate) for one in past if one.running]
        completed = [one for one in past if one.completed]
        if not self._counted <= {one.trial for one in completed}:
            # Another search, or fewer trials than before.
            self._counted, self._done = set(), numpy.zeros(0)
        new = [one for one in completed if one.trial not in self._counted]
        stored = [self._of(one.candidate) for one in new]
        self._done = _at_least(self._done, stored, len(self._places))
        self._counted |= {one.trial for one in new}
        going = _at_least(self._done.copy(), running, len(self._places)) - self._done
        most = max((len(places) for places, _ in segments), default=0)
        places = numpy.array([[*at, *[0] * (most - len(at))] for at, _ in segments], dtype=numpy.int64)
        needed = numpy.array([[*steps, *[0] * (most - len(steps))] for _, steps in segments], dtype=numpy.float64)
        left = numpy.maximum(needed - self._done[places], 0.0)
        return numpy.asarray((left - numpy.minimum(left, going[places]) / 2).sum(1), dtype=numpy.float64)

    def _of(self, one: Candidate) -> tuple[list[int], list[int]]:
        """Places of a recipe's addresses, and the steps of each."""
        if one.digest not in self._segments:
            places = [self._places.setdefault(address, len(self._places)) for address, _ in one.segments]
            self._segments[one.digest] = (places, [needed for _, needed in one.segments])
        return self._segments[one.digest]


def _at_least(reached: Array, more: Sequence[tuple[list[int], list[int]]], size: int) -> Array:
    """What is reached at each of `size` places once these segments are trained too."""
    found = numpy.concatenate([reached, numpy.zeros(size - len(reached))])
    for places, steps in more:
        numpy.maximum.at(found, numpy.array(places, dtype=numpy.int64), numpy.array(steps, dtype=numpy.float64))
    return found
