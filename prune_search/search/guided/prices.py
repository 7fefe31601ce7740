"""What recipes would still cost: the steps that they would add to the tree of shared training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy
from numpy.typing import NDArray

from prune_search.search.guided.candidates import Candidate
from prune_search.search.guided.kernel import Array
from prune_search.search.guided.past import Past

Places: TypeAlias = NDArray[numpy.int64]


@dataclass
class Prices:
    """Prices of recipes; what is stored is free, and of what is being trained half of the rest is paid.

    Segments and what the completed trials have stored are remembered between two calls: both only grow.
    """

    _places: dict[str, int] = field(default_factory=dict, repr=False)
    _rows: dict[str, int] = field(default_factory=dict, repr=False)
    _at: Places = field(default_factory=lambda: numpy.zeros((0, 0), dtype=numpy.int64), repr=False)
    _needed: Array = field(default_factory=lambda: numpy.zeros((0, 0)), repr=False)
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
        wanted = self._read(recipes)
        running = self._read([one.candidate for one in past if one.running])
        completed = [one for one in past if one.completed]
        new = [one for one in completed if one.trial not in self._counted]
        if len(completed) - len(new) < len(self._counted):
            # Another search, or fewer trials than before.
            self._counted, self._done, new = set(), numpy.zeros(0), completed
        stored = self._read([one.candidate for one in new])
        self._done = self._at_least(self._done, stored)
        self._counted |= {one.trial for one in new}
        going = self._at_least(self._done.copy(), running) - self._done
        at, needed = self._at[wanted], self._needed[wanted]
        left = numpy.maximum(needed - self._done[at], 0.0)
        return numpy.asarray((left - numpy.minimum(left, going[at]) / 2).sum(1), dtype=numpy.float64)

    def _read(self, recipes: Sequence[Candidate]) -> Places:
        """[recipes], their rows in the tables of places and steps, which grow by those that are new."""
        new = {one.digest: one for one in recipes if one.digest not in self._rows}
        if new:
            most = max(self._at.shape[1], *(len(one.segments) for one in new.values()))
            size = len(self._rows) + len(new)
            at, needed = numpy.zeros((size, most), dtype=numpy.int64), numpy.zeros((size, most))
            at[: len(self._at), : self._at.shape[1]] = self._at
            needed[: len(self._at), : self._at.shape[1]] = self._needed
            for row, (digest, one) in enumerate(new.items(), len(self._rows)):
                self._rows[digest] = row
                for place, (address, steps) in enumerate(one.segments):
                    at[row, place] = self._places.setdefault(address, len(self._places))
                    needed[row, place] = steps
            self._at, self._needed = at, needed
        return numpy.array([self._rows[one.digest] for one in recipes], dtype=numpy.int64)

    def _at_least(self, reached: Array, rows: Places) -> Array:
        """What is reached at each place once the recipes of some rows are trained too."""
        found = numpy.concatenate([reached, numpy.zeros(len(self._places) - len(reached))])
        numpy.maximum.at(found, self._at[rows], self._needed[rows])
        return found
