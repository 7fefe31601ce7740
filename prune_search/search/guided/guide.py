"""Chooses what is tried next: the largest expected gain for the steps that it still costs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, TypeAlias

import numpy

from prune_search.ledger.ranking import Dense, Goals, total_violation
from prune_search.ledger.records import TrialRecords
from prune_search.recipe.space import Space
from prune_search.search.guided.candidates import Candidate, Candidates, EpochOf
from prune_search.search.guided.experience import Experience
from prune_search.search.guided.features import Frame, Network, network
from prune_search.search.guided.gains import Gains, marginal_steps
from prune_search.search.guided.kernel import Array
from prune_search.search.guided.model import Model
from prune_search.search.guided.past import Past, Reader, Seen, looked_at
from prune_search.search.guided.surrogate import Surrogate

# Power of the price, to which the mean price of a recipe is added: gains that are nearly free are no aim.
POWER = 0.5
# Proposals for which the neighbours of the best recipe are the same ones.
REFRESHED = 16
# Networks of which the frame is made, at most; of more, the last ones of each recipe.
MOST_FRAMED = 4096

# Surrogates by what they model, apart for searches of which networks were measured in the middle of a retraining.
Kept: TypeAlias = dict[bool, dict[tuple[str, bool, bool], Surrogate]]


@dataclass
class Guide:
    """Chooses the next recipe of a search: a pure function of the space, the number and what is known.

    Attributes:
        space: what is searched.
        epoch_of: iterations in an epoch of a recipe, or None where they are not known.
        examples: training examples, of a data set whose size is not known before it is read.
        prior: whether the expected error of published findings is a prior mean.
        experience: what earlier searches showed: further prior means.
    """

    space: Space
    epoch_of: EpochOf
    examples: int = 0
    prior: bool = True
    experience: Experience = field(default_factory=Experience)
    _neighbours: tuple[str, int, list[Candidate], list[Network]] = field(
        default_factory=lambda: ("", 0, [], []), repr=False
    )
    _frames: dict[bool, Frame] = field(default_factory=dict, repr=False)
    _surrogates: Kept = field(default_factory=lambda: {False: {}, True: {}}, repr=False)

    @cached_property
    def reader(self) -> Reader:
        """Reads what is known."""
        return Reader(self.epoch_of)

    @cached_property
    def goals(self) -> Goals:
        """Objectives and constraints of the search."""
        return Goals.of(self.space.search)

    @cached_property
    def candidates(self) -> Candidates:
        """Makes candidates."""
        return Candidates(self.space, self.epoch_of, self.examples)

    @cached_property
    def fixed(self) -> tuple[list[Candidate], bool]:
        """The candidates of every proposal, and whether they are the whole space."""
        return self.candidates.fixed()

    @cached_property
    def ends(self) -> list[Network]:
        """What these candidates end with."""
        return [*map(self.reader.end, self.fixed[0])]

    @cached_property
    def unit(self) -> float:
        """Mean steps of a recipe from nothing."""
        steps = [one.steps for one in self.fixed[0]]
        return max(1.0, sum(steps) / max(1, len(steps)))

    def choose(
        self, number: int, known: Sequence[TrialRecords], dense: Dense, given: Mapping[str, Any] | None = None
    ) -> Candidate | None:
        """What is proposed as trial `number`.

        Args:
            number: from 1.
            known: the trials proposed so far, in any order.
            dense: metrics of the dense network, or None while they are not known.
            given: what a recipe that is tried first says of the holes; only the others are chosen.

        Returns:
            None where every recipe of the space has been proposed.
        """
        there = self.reader.all(known)
        if given and (first := self.candidates.with_given(given)):
            return self._highest(first, self._gains_alone(first, there, dense, number), there)
        tried = {one.candidate.digest for one in there}
        fixed, whole = self.fixed
        batch = number // REFRESHED
        best = None if whole else self._best(there, dense, batch)
        near, ends = ([], []) if best is None else self._near(best, batch)
        everything = [*fixed, *near]
        rows = numpy.array([row for row, one in enumerate(everything) if one.digest not in tried], dtype=numpy.int64)
        if not len(rows):
            return None
        groups = {"fixed": self.ends, "near": ends}
        gains = self._gains(groups, there, dense, self._surrogates).of(rows, number)
        return self._highest([everything[row] for row in rows], gains, there)

    def gains(self, recipes: Sequence[Candidate]) -> Array:
        """[recipes], the logarithms of what is expected to be gained from each before anything is measured."""
        return _logs(self._gains_alone(recipes, [], None, 1))

    def _highest(self, recipes: Sequence[Candidate], gains: Array, past: Sequence[Past]) -> Candidate:
        """The recipe of the largest gain for its price."""
        price = numpy.array(self._prices(recipes, past))
        return recipes[int(numpy.argmax(_logs(gains) - POWER * numpy.log(price + self.unit)))]

    def _near(self, best: Candidate, batch: int) -> tuple[list[Candidate], list[Network]]:
        """The neighbours of a recipe: others after so many proposals, the same ones in between; and their ends."""
        if self._neighbours[:2] != (best.digest, batch):
            found = self.candidates.near(best.drawn, batch)
            self._neighbours = (best.digest, batch, found, [*map(self.reader.end, found)])
        return self._neighbours[2:]

    def _best(self, past: Sequence[Past], dense: Dense, batch: int) -> Candidate | None:
        """The recipe whose neighbours are looked at: the one of the best measured figures."""
        ended = [one for one in past if one.completed and self.goals.values(one.seen[-1].figures) is not None]
        if not ended:
            return None
        ranks = self.goals.ranks([one.seen[-1].figures for one in ended], dense)
        first = [one for one, rank in zip(ended, ranks, strict=True) if rank == 0]
        # Of a front each in turn.
        return first[batch % len(first)].candidate

    # --- the choice -------------------------------------------------------------------------------------------------

    def _gains_alone(self, recipes: Sequence[Candidate], past: Sequence[Past], dense: Dense, number: int) -> Array:
        """[recipes], gains of others than those of every proposal: nothing that was computed for these is replaced."""
        groups = {"alone": [*map(self.reader.end, recipes)]}
        return self._gains(groups, past, dense, {False: {}, True: {}}).of(numpy.arange(len(recipes)), number)

    def _gains(self, groups: Mapping[str, Sequence[Network]], past: Sequence[Past], dense: Dense, kept: Kept) -> Gains:
        seen = looked_at(past)
        running = [self.reader.end(one.candidate) for one in past if one.running]
        halfway = any(one.network.numbers["done"] < 1 for one in seen)
        model = Model(self._frame(halfway), seen, groups, running, kept[halfway])
        objectives = [
            model.of(metric, way, learned=self.experience.expected(metric, way))
            for way, metric in self.goals.objectives
        ]
        constraints = [
            model.of(metric, "maximize" if relation == ">=" else "minimize", careful=True)
            for metric, relation, _ in self.goals.constraints
        ]
        last = [place for place, one in enumerate(seen) if one.last]
        ended = numpy.array([model.candidates + place for place in last], dtype=numpy.int64)
        met = numpy.array([self._met(seen[place], dense) for place in last], dtype=bool)
        for one in objectives:
            met &= True if one.belief is None else numpy.isfinite(one.belief.mean[0, ended])
        return Gains(self.goals, objectives, constraints, dense, ended, met, numpy.nan_to_num(model.sparsity))

    def _frame(self, halfway: bool) -> Frame:
        """How networks become rows; where some were measured in the middle of a retraining, that tells them apart."""
        if halfway not in self._frames:
            networks = [
                network(one, number) for one in self.fixed[0] for number in range(1, one.recipe.rounds)
            ] + self.ends
            if len(networks) > MOST_FRAMED:
                networks = self.ends
            if halfway:
                networks = [*networks, replace(networks[0], numbers={**networks[0].numbers, "done": 0.0})]
            self._frames[halfway] = Frame.of(networks, self.prior)
        return self._frames[halfway]

    def _met(self, one: Seen, dense: Dense) -> bool:
        return total_violation(self.goals.violations(one.figures, dense)) == 0.0

    def _prices(self, open_: Sequence[Candidate], past: Sequence[Past]) -> list[float]:
        done: dict[str, int] = {}
        going: dict[str, int] = {}
        for one in past:
            into = done if one.completed else going if one.running else None
            if into is not None:
                for address, needed in one.candidate.segments:
                    into[address] = max(needed, into.get(address, 0))
        return [marginal_steps(one.segments, done, going) for one in open_]


def _logs(gains: Array) -> Array:
    return numpy.asarray(numpy.log(numpy.maximum(gains, 1e-30)), dtype=numpy.float64)
