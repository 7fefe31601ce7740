"""Chooses what is tried next: the largest expected gain for the steps that it still costs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy

from prune_search.ledger.ranking import Dense, Goals, total_violation
from prune_search.ledger.records import TrialRecords
from prune_search.recipe.space import Space
from prune_search.search.guided.candidates import Candidate, Candidates, EpochOf
from prune_search.search.guided.experience import Experience
from prune_search.search.guided.features import nodes_of
from prune_search.search.guided.gains import Gains, marginal_steps
from prune_search.search.guided.kernel import Array
from prune_search.search.guided.model import Model
from prune_search.search.guided.past import Past, Reader, Seen, looked_at

# Power of the price, to which the mean price of a recipe is added: gains that are nearly free are no aim.
POWER = 0.5
# Proposals for which the neighbours of the best recipe are the same ones.
REFRESHED = 8


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
    _neighbours: tuple[str, int, list[Candidate]] = field(default_factory=lambda: ("", 0, []), repr=False)

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
            return first[int(numpy.argmax(self._scores(first, there, dense, number)))]
        tried = {one.candidate.digest for one in there}
        fixed, whole = self.fixed
        open_ = [one for one in fixed if one.digest not in tried]
        batch = number // REFRESHED
        if not whole and (best := self._best(there, dense, batch)) is not None:
            open_ += [one for one in self._near(best, batch) if one.digest not in tried]
        if not open_:
            return None
        scores = self._scores(open_, there, dense, number)
        return open_[int(numpy.argmax(scores))]

    def gains(self, recipes: Sequence[Candidate]) -> Array:
        """[recipes], the logarithms of what is expected to be gained from each before anything is measured."""
        prices = numpy.array(self._prices(recipes, []))
        found = self._scores(recipes, [], None, 1) + POWER * numpy.log(prices + self.unit)
        return numpy.asarray(found, dtype=numpy.float64)

    def _near(self, best: Candidate, batch: int) -> list[Candidate]:
        """The neighbours of a recipe: others after so many proposals, the same ones in between."""
        if self._neighbours[:2] != (best.digest, batch):
            self._neighbours = (best.digest, batch, self.candidates.near(best.drawn, batch))
        return self._neighbours[2]

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

    def _scores(
        self, open_: Sequence[Candidate], past: Sequence[Past], dense: Dense, number: int
    ) -> numpy.ndarray[Any, numpy.dtype[numpy.float64]]:
        seen = looked_at(past)
        running = [one.candidate for one in past if one.running]
        networks = [*map(self.reader.end, open_), *map(self.reader.end, running), *(one.network for one in seen)]
        rows = numpy.arange(len(open_))
        first = len(open_) + len(running)
        pending = numpy.arange(len(open_), first)
        at = numpy.arange(first, len(networks))
        with_prior = nodes_of(networks, self.prior)
        without = replace(with_prior, prior=None)
        # A bound is kept by what is less sparse rather than by what is less certain.
        careful = replace(without, worsens=True)
        sparsity = numpy.array([math.nan if one.density is None else 1 - one.density for one in networks])
        model = Model(seen, at, pending, sparsity)
        objectives = [
            model.of(with_prior, without, metric, way, [*self.experience.expected(networks, metric, way).values()])
            for way, metric in self.goals.objectives
        ]
        constraints = [
            model.of(careful, careful, metric, "maximize" if relation == ">=" else "minimize")
            for metric, relation, _ in self.goals.constraints
        ]
        ended = numpy.array([at[i] for i, one in enumerate(seen) if one.last], dtype=numpy.int64)
        gains = Gains(
            self.goals,
            objectives,
            constraints,
            dense,
            ended,
            numpy.array([self._met(one, dense) for one in seen if one.last], dtype=bool),
            numpy.nan_to_num(sparsity),
        ).of(rows, number)
        price = numpy.array(self._prices(open_, past))
        scores = numpy.log(numpy.maximum(gains, 1e-30)) - POWER * numpy.log(price + self.unit)
        return numpy.asarray(scores, dtype=numpy.float64)

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
