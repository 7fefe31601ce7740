"""Chooses what is tried next: the largest expected gain for the steps that it still costs."""

from __future__ import annotations

import bisect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, TypeAlias

import numpy
from numpy.typing import NDArray

from prune_search.ledger.ranking import Dense, Goals, total_violation
from prune_search.ledger.records import TrialRecords
from prune_search.recipe.fidelity import fidelities_of
from prune_search.recipe.space import Space
from prune_search.search.guided.candidates import Candidate, Candidates, EpochOf
from prune_search.search.guided.experience import Experience
from prune_search.search.guided.features import Frame, Network, network
from prune_search.search.guided.gains import Gains
from prune_search.search.guided.kernel import Array, Bank, Rows, members
from prune_search.search.guided.low_fidelity import Cheaper, LowFidelities, Tried
from prune_search.search.guided.model import Model
from prune_search.search.guided.past import Past, Reader, Seen, looked_at
from prune_search.search.guided.prices import Prices
from prune_search.search.guided.surface import Surface
from prune_search.search.guided.surrogate import Surrogate

# Power of the price, to which the mean price of a recipe is added: gains that are nearly free are no aim. Where nothing
# is known beforehand, cheap recipes are tried sooner.
POWER, UNTOLD_POWER = 0.5, 0.65
# For so many proposals the neighbours of the best recipe are the same ones: up to a number of the trial, and after all.
BATCHES, SELDOM = ((32, 4), (128, 16)), 64
# In a long search several proposals are chosen from the same measurements: a power of 2, one in so many of the trials
# before, and at most so many.
ONE_IN, TOGETHER = 16, 16
# Not where more of the trials than one in so many run at the same time.
MANY_OTHERS = 8
# After so many proposals a large space is filled with other points; where none is left, so many times at once.
REFILLED, AGAIN = 512, 4
# The first recipe costs at most so much of the way from the cheapest to a mean one.
FIRST = 0.75
# Members that say how alike recipes are where nothing else tells them apart.
TYPICAL = 8
# Networks of which the frame is made, at most; of more, the last ones of each recipe.
MOST_FRAMED = 4096

# Surrogates by what they model, apart for searches of which networks were measured in the middle of a retraining.
Kept: TypeAlias = dict[bool, dict[tuple[str, bool, bool], Surrogate]]


@dataclass(frozen=True)
class _Known:
    """What trials tell.

    Attributes:
        past: the trials.
        dense: metrics of the dense network.
        seen: the measurements that count.
        running: of the trials.
        last: [e], places of the measurements that completed trials ended with.
        met: [e], whether each of these meets the constraints.
        halfway: whether something was measured in the middle of a retraining.
    """

    past: Sequence[Past]
    dense: Dense
    seen: Sequence[Seen]
    running: Sequence[Past]
    last: Rows
    met: NDArray[numpy.bool_]
    halfway: bool


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
    _filled: tuple[int, list[Candidate], list[Network]] = field(default_factory=lambda: (0, [], []), repr=False)
    _frames: dict[bool, Frame] = field(default_factory=dict, repr=False)
    _best_of: tuple[tuple[int, frozenset[str], str], Candidate | None] | None = field(default=None, repr=False)
    _last_known: _Known | None = field(default=None, repr=False)
    _prices: Prices = field(default_factory=Prices, repr=False)
    _surrogates: Kept = field(default_factory=lambda: {False: {}, True: {}}, repr=False)
    # The low-fidelity trials that the surrogates know.
    _expecting: tuple[str, ...] = field(default=(), repr=False)

    @cached_property
    def low(self) -> LowFidelities:
        """Cheaper forms of recipes."""
        return LowFidelities(fidelities_of(self.space.search), self.epoch_of, self.reader, self.goals)

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
        found, whole = self.candidates.fixed()
        self.reader.remember(found)
        return found, whole

    @cached_property
    def ends(self) -> list[Network]:
        """What these candidates end with."""
        return [*map(self.reader.end, self.fixed[0])]

    @cached_property
    def unit(self) -> float:
        """Mean steps of a recipe from nothing."""
        steps = [one.steps for one in self.fixed[0]]
        return max(1.0, sum(steps) / max(1, len(steps)))

    @cached_property
    def told(self) -> bool:
        """Whether anything is known before the first trial."""
        return self.prior or any(self.experience.expected(metric, way) for way, metric in self.goals.objectives)

    @property
    def power(self) -> float:
        """Of the price."""
        return POWER if self.told else UNTOLD_POWER

    def choose(
        self,
        number: int,
        known: Sequence[TrialRecords],
        dense: Dense,
        given: Mapping[str, Any] | None = None,
        low: Sequence[TrialRecords] = (),
    ) -> Candidate | Cheaper | None:
        """What is proposed as trial `number`.

        Args:
            number: from 1.
            known: the trials proposed so far, in any order.
            dense: metrics of the dense network, or None while they are not known.
            given: what a recipe that is tried first says of the holes; only the others are chosen.
            low: the low-fidelity trials proposed so far.

        Returns:
            A recipe, or a cheaper form of one; None where every recipe of the space has been proposed, or all points
            that a large one is filled with.
        """
        # In batches what a running trial has measured so far would make each proposal look at other figures.
        there = self.reader.all(known, running=self._together(number) == 1)
        if given and (first := self.candidates.with_given(given)):
            return self._highest(first, self._gains_alone(first, there, dense, number), there)
        return self.chosen(number, there, dense, known, self.low.tried(low))

    def chosen(
        self,
        number: int,
        there: Sequence[Past],
        dense: Dense,
        known: Sequence[TrialRecords] = (),
        low: Sequence[Tried] = (),
    ) -> Candidate | Cheaper | None:
        """What is proposed as trial `number` after what is known of the others; None where every one was."""
        tried = {one.candidate.digest for one in there}
        # What their cheaper forms tell is waited for, as long as there is another recipe.
        waiting = {one.full.digest for one in low if one.past.running}
        _, whole = self.fixed
        batch, since = batch_of(number)
        best = None if whole else self._best(_before(there, since), dense, batch)
        near, ends = ([], []) if best is None else self._near(best, batch)
        stood_for = list({one.full.digest: one.full for one in low}.values())
        first = 0 if whole else number // REFILLED
        for generation in range(first, first + (1 if whole else AGAIN)):
            filled, filling = self._filling(generation)
            # Neighbours of which a cheaper form was tried stay, whatever the best recipe is by now.
            there_already = {one.digest for one in (*filled, *near)} if stood_for else set()
            kept = [one for one in stood_for if one.digest not in there_already]
            everything = [*filled, *near, *kept]
            untried = [row for row, one in enumerate(everything) if one.digest not in tried]
            untried = [row for row in untried if everything[row].digest not in waiting] or untried
            if untried:
                break
        else:
            return None
        rows = numpy.array(untried, dtype=numpy.int64)
        if not there:
            return self._first()
        groups: dict[str, Sequence[Network]] = {"fixed": filling, "near": ends}
        groups |= {"kept": [*map(self.reader.end, kept)]} if low else {}
        if (expecting := tuple(one.trial.id for one in low if one.past.completed)) != self._expecting:
            # Other prior means: nothing that was computed with the former ones holds.
            self._expecting, self._surrogates = expecting, {False: {}, True: {}}
        gains = self._gains(groups, there, dense, self._surrogates, self.looked_at_before(number), low)
        recipes, gained = [everything[row] for row in rows], gains.of(rows, number)
        past = [*there, *(one.past for one in low)]
        chosen = self._highest(recipes, gained, past)
        offered = self.low.offered(recipes, gained, there, known, low)
        return self._cheaper(recipes, gained, past, chosen, offered) or chosen

    def _cheaper(
        self,
        recipes: Sequence[Candidate],
        gains: Array,
        past: Sequence[Past],
        best: Candidate,
        offered: Sequence[tuple[int, Cheaper, float]],
    ) -> Cheaper | None:
        """The cheaper form that gains more for its price than the best full recipe; None where none does."""
        if not offered:
            return None
        of_forms = numpy.array([correlation * gains[place] for place, _, correlation in offered])
        scores = self._scores([one.candidate for _, one, _ in offered], of_forms, past)
        place = next(place for place, one in enumerate(recipes) if one is best)
        chosen = int(numpy.argmax(scores))
        return offered[chosen][1] if scores[chosen] > self._scores([best], gains[place : place + 1], past)[0] else None

    def looked_at_before(self, number: int) -> int:
        """The first trial whose figures are not looked at for proposal `number`, whatever is known of it by now.

        So the proposals of a batch look at the same figures: those that nearly always are there when it begins.
        """
        size = self._together(number)
        return number if size == 1 else number // size * size - self._others

    def _together(self, number: int) -> int:
        """How many proposals, trial `number` among them, are chosen from the same measurements."""
        return 1 if self._others > number // MANY_OTHERS else together(number)

    @property
    def _others(self) -> int:
        """How many trials run beside another one."""
        return int(self.space.search["concurrency"]) - 1

    def _first(self) -> Candidate:
        """The recipe that is tried first: until it has ended there is no answer, so that it is not a long one."""
        fixed, _ = self.fixed
        steps = numpy.array([one.steps for one in fixed])
        rows = numpy.flatnonzero(steps <= steps.min() + FIRST * (self.unit - steps.min()))
        if self.told:
            gains = self._gains({"fixed": self.ends, "near": []}, [], None, self._surrogates, 1).of(rows, 1)
        else:
            gains = self._amid(rows)
        return self._highest([fixed[row] for row in rows], gains, [])

    def _amid(self, rows: Rows) -> Array:
        """[rows], how alike recipes are to all others of the space: those in its middle tell most of the others."""
        frame = self._frame(False)
        nodes = frame.rows(self.ends)
        bank = Bank.of(members(len(frame.columns), len(frame.codes), False)[:TYPICAL], False)
        return numpy.asarray(bank.alike(nodes.take(rows), nodes).mean((0, 2)))

    def gains(self, recipes: Sequence[Candidate]) -> Array:
        """[recipes], the logarithms of what is expected to be gained from each before anything is measured."""
        return _logs(self._gains_alone(recipes, [], None, 1))

    def _highest(self, recipes: Sequence[Candidate], gains: Array, past: Sequence[Past]) -> Candidate:
        """The recipe of the largest gain for its price."""
        return recipes[int(numpy.argmax(self._scores(recipes, gains, past)))]

    def _scores(self, recipes: Sequence[Candidate], gains: Array, past: Sequence[Past]) -> Array:
        """[recipes], logarithms of their gains over their prices."""
        price = self._prices.of(recipes, past)
        return numpy.asarray(_logs(gains) - self.power * numpy.log(price + self.unit), dtype=numpy.float64)

    def _filling(self, generation: int) -> tuple[list[Candidate], list[Network]]:
        """What a space is filled with, and what that ends with."""
        if generation == 0:
            return self.fixed[0], self.ends
        if self._filled[0] != generation:
            found = self.candidates.filled(generation)
            self.reader.remember(found)
            self._filled = (generation, found, [*map(self.reader.end, found)])
        return self._filled[1:]

    def _near(self, best: Candidate, batch: int) -> tuple[list[Candidate], list[Network]]:
        """The neighbours of a recipe: others after so many proposals, the same ones in between; and their ends."""
        if self._neighbours[:2] != (best.digest, batch):
            found = self.candidates.near(best.drawn, batch)
            self.reader.remember(found)
            self._neighbours = (best.digest, batch, found, [*map(self.reader.end, found)])
        return self._neighbours[2:]

    def _best(self, past: Sequence[Past], dense: Dense, batch: int) -> Candidate | None:
        """The recipe whose neighbours are looked at: the one of the best measured figures."""
        key = (batch, frozenset(one.trial for one in past if one.completed), repr(dense))
        if self._best_of is None or self._best_of[0] != key:
            self._best_of = (key, self._best_anew(past, dense, batch))
        return self._best_of[1]

    def _best_anew(self, past: Sequence[Past], dense: Dense, batch: int) -> Candidate | None:
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
        return self._gains(groups, past, dense, {False: {}, True: {}}, number).of(numpy.arange(len(recipes)), number)

    def _gains(
        self,
        groups: Mapping[str, Sequence[Network]],
        past: Sequence[Past],
        dense: Dense,
        kept: Kept,
        since: int,
        low: Sequence[Tried] = (),
    ) -> Gains:
        """Gains by what was measured of the trials before number `since`; later ones count as running."""
        known = self._known(_before(past, since), dense)
        later = past[len(known.past) :]
        pending = [self.reader.end(one.candidate) for one in (*known.running, *later)]
        model = Model(self._frame(known.halfway), known.seen, groups, pending, kept[known.halfway])
        objectives = [
            model.of(metric, way, learned=self._learned(metric, way, low)) for way, metric in self.goals.objectives
        ]
        constraints = [
            model.of(metric, "maximize" if relation == ">=" else "minimize", careful=True)
            for metric, relation, _ in self.goals.constraints
        ]
        ended, met = model.candidates + known.last, known.met.copy()
        for one in objectives:
            met &= True if one.belief is None else numpy.isfinite(one.belief.mean[0, ended])
        return Gains(self.goals, objectives, constraints, dense, ended, met, numpy.nan_to_num(model.sparsity))

    def _learned(self, metric: str, way: str, low: Sequence[Tried]) -> list[Surface]:
        """What earlier searches, and cheaper forms in this one, let one expect of a metric."""
        return [*self.experience.expected(metric, way), *self.low.expected(low, metric, way)]

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

    def _known(self, past: Sequence[Past], dense: Dense) -> _Known:
        """What some trials tell; proposals that are chosen together ask for the same."""
        if self._last_known is None or self._last_known.dense != dense or list(self._last_known.past) != list(past):
            seen = looked_at(past)
            last = [place for place, one in enumerate(seen) if one.last]
            met = [self._met(seen[place], dense) for place in last]
            halfway = any(one.network.numbers["done"] < 1 for one in seen)
            running = [one for one in past if one.running]
            places, kept = numpy.array(last, dtype=numpy.int64), None if dense is None else dict(dense)
            self._last_known = _Known(past, kept, seen, running, places, numpy.array(met, dtype=bool), halfway)
        return self._last_known

    def _met(self, one: Seen, dense: Dense) -> bool:
        return total_violation(self.goals.violations(one.figures, dense)) == 0.0


def batch_of(number: int) -> tuple[int, int]:
    """Which batch of proposals trial `number` belongs to, from 0, and the number of its first one."""
    before, begun = 0, 0
    for until, size in (*BATCHES, (number + 1, SELDOM)):
        if number < until:
            return before + (number - begun) // size, begun + (number - begun) // size * size
        before, begun = before + (until - begun) // size, until
    raise AssertionError("every trial is in a batch")


def together(number: int) -> int:
    """How many proposals, trial `number` among them, are chosen together where few trials run at a time."""
    return min(TOGETHER, 1 << max(1, number // ONE_IN).bit_length() - 1)


def _before(past: Sequence[Past], since: int) -> Sequence[Past]:
    """The trials before number `since`, of trials in their order."""
    return past[: bisect.bisect_left(past, since, key=lambda one: one.number)]


def _logs(gains: Array) -> Array:
    return numpy.asarray(numpy.log(numpy.maximum(gains, 1e-30)), dtype=numpy.float64)
