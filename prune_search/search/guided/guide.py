"""Chooses what is tried next: the largest expected gain for the steps that it still costs."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy

from prune_search.ledger.ranking import Dense, Goals
from prune_search.ledger.records import Record, TrialRecords
from prune_search.recipe.problems import UserError
from prune_search.recipe.recipe import Recipe
from prune_search.recipe.space import Space
from prune_search.search.guided.candidates import Candidate, Candidates, EpochOf
from prune_search.search.guided.features import Network, network, nodes_of
from prune_search.search.guided.gains import SPARSITY, Gains, Modelled, marginal_steps
from prune_search.search.guided.surrogate import Belief, Nodes, believe
from prune_search.search.guided.targets import Target

# Measurements that are looked at, at most: the last ones of every recipe first.
MOST_SEEN = 150
# Power of the price, to which the mean price of a recipe is added: gains that are nearly free are no aim.
POWER = 0.5


@dataclass(frozen=True)
class Seen:
    """A measurement.

    Attributes:
        network: what was measured.
        figures: of it.
        last: whether it is what a completed trial ended with.
    """

    network: Network
    figures: Mapping[str, Any]
    last: bool


@dataclass(frozen=True)
class Past:
    """A trial that was proposed.

    Attributes:
        candidate: its recipe.
        seen: what was measured of it.
        running: whether it has not ended.
        completed: whether it ran to its end.
    """

    candidate: Candidate
    seen: tuple[Seen, ...]
    running: bool
    completed: bool


@dataclass
class Guide:
    """Chooses the next recipe of a search: a pure function of the space, the number and what is known.

    Attributes:
        space: what is searched.
        epoch_of: iterations in an epoch of a recipe, or None where they are not known.
        examples: training examples, of a data set whose size is not known before it is read.
        prior: whether the expected error of published findings is a prior mean.
    """

    space: Space
    epoch_of: EpochOf
    examples: int = 0
    prior: bool = True
    _ends: dict[str, Network] = field(default_factory=dict, repr=False)

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

    def choose(self, number: int, known: Sequence[TrialRecords], dense: Dense) -> Candidate | None:
        """What is proposed as trial `number`.

        Args:
            number: from 1.
            known: the trials proposed so far, in any order.
            dense: metrics of the dense network, or None while they are not known.

        Returns:
            None where every recipe of the space has been proposed.
        """
        past = [self.past(trial) for trial in sorted(known, key=lambda trial: trial.id) if not trial.control]
        there = [one for one in past if one is not None]
        tried = {one.candidate.digest for one in there}
        fixed, whole = self.fixed
        open_ = [one for one in fixed if one.digest not in tried]
        best = self._best(there, dense)
        if not whole and best is not None:
            open_ += [one for one in self.candidates.near(best.drawn, number) if one.digest not in tried]
        if not open_:
            return None
        scores = self._scores(open_, there, dense, number)
        return open_[int(numpy.argmax(scores))]

    def past(self, trial: TrialRecords) -> Past | None:
        """What a trial's records say; None of a control, or of a recipe that cannot be placed."""
        if trial.proposed is None or trial.proposed.data["sampler"] is None:
            return None
        kept = trial.computed.get("guided")
        if kept is not None and kept[:3] == (id(self), trial.ended is None, len(trial.measured)):
            found: Past | None = kept[3]
            return found
        found = self._read(trial)
        trial.computed["guided"] = (id(self), trial.ended is None, len(trial.measured), found)
        return found

    def _read(self, trial: TrialRecords) -> Past | None:
        data = {} if trial.proposed is None else trial.proposed.data
        try:
            recipe = Recipe.from_canonical(trial.recipe)
            epoch = self.epoch_of(recipe) or 1
            one = Candidate.of(recipe, epoch, str(data.get("option", "")), trial.params, data["sampler"]["params"])
        except UserError:
            return None
        if trial.duplicate_of is not None:
            return Past(one, (), False, False)
        completed = trial.status == "completed"
        found = [Seen(network(one, number), record.figures, False) for number, record in _rounds(trial, completed)]
        if not completed and (middle := _middle(trial)) is not None and one.timeline.retrain_steps:
            number, step = int(middle.data["round"]), int(middle.data["step"])
            done = min(1.0, step / one.timeline.retrain_steps)
            found.append(Seen(network(one, number, done), middle.figures, False))
        if completed:
            found.append(Seen(self._end(one), trial.metrics, True))
        return Past(one, tuple(found), trial.ended is None, completed)

    def _end(self, one: Candidate) -> Network:
        """What a recipe ends with; computed once."""
        if one.digest not in self._ends:
            self._ends[one.digest] = network(one, one.recipe.rounds)
        return self._ends[one.digest]

    def _best(self, past: Sequence[Past], dense: Dense) -> Candidate | None:
        """The recipe whose neighbours are looked at: the one of the best measured figures."""
        ended = [one for one in past if one.completed and self.goals.values(one.seen[-1].figures) is not None]
        if not ended:
            return None
        ranks = self.goals.ranks([one.seen[-1].figures for one in ended], dense)
        first = [one for one, rank in zip(ended, ranks, strict=True) if rank == 0]
        # Of a front each in turn.
        return first[len(past) % len(first)].candidate

    # --- the choice -------------------------------------------------------------------------------------------------

    def _scores(
        self, open_: Sequence[Candidate], past: Sequence[Past], dense: Dense, number: int
    ) -> numpy.ndarray[Any, numpy.dtype[numpy.float64]]:
        seen = _looked_at(past)
        running = [one.candidate for one in past if one.running]
        networks = [*map(self._end, open_), *map(self._end, running), *(one.network for one in seen)]
        rows = numpy.arange(len(open_))
        first = len(open_) + len(running)
        pending = numpy.arange(len(open_), first)
        at = numpy.arange(first, len(networks))
        with_prior = nodes_of(networks, self.prior)
        without = replace(with_prior, prior=None)
        sparsity = numpy.array([math.nan if one.density is None else 1 - one.density for one in networks])
        model = _Model(seen, at, pending, sparsity)
        objectives = [model.of(with_prior, without, metric, way) for way, metric in self.goals.objectives]
        constraints = [
            model.of(without, without, metric, "maximize" if relation == ">=" else "minimize")
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
        violations = self.goals.violations(one.figures, dense)
        return violations is None or all(violation <= 0 for violation in violations)

    def _prices(self, open_: Sequence[Candidate], past: Sequence[Past]) -> list[float]:
        done: dict[str, int] = {}
        going: dict[str, int] = {}
        for one in past:
            into = done if one.completed else going if one.running else None
            if into is not None:
                for vertex in one.candidate.branch.vertices():
                    into[vertex.address] = max(vertex.needed, into.get(vertex.address, 0))
        return [marginal_steps([(v.address, v.needed) for v in one.branch.vertices()], done, going) for one in open_]


def _rounds(trial: TrialRecords, completed: bool) -> Iterator[tuple[int, Record]]:
    """What was measured at the ends of rounds; of a completed trial without the last, which its result has."""
    ends = [record for record in trial.measured if record.data.get("step") is None]
    for record in ends[:-1] if completed else ends:
        yield int(record.data["round"]), record


def _middle(trial: TrialRecords) -> Record | None:
    """The last measurement of a trial, where it was in the middle of a retraining."""
    last = trial.measured[-1] if trial.measured else None
    return last if last is not None and last.data.get("step") is not None else None


def _looked_at(past: Sequence[Past]) -> list[Seen]:
    """The measurements that count: what recipes ended with, then what was measured on the way, the latest of each."""
    last = [one for trial in past for one in trial.seen if one.last][-MOST_SEEN:]
    way = [one for trial in past for one in trial.seen if not one.last]
    left = MOST_SEEN - len(last)
    return [*last, *(way[-left:] if left else [])]


@dataclass(frozen=True)
class _Model:
    """Models the metrics of the goals over the networks of a proposal.

    Attributes:
        seen: the measurements.
        at: their rows.
        pending: rows of what runs; it counts as measured at its expected figure.
        sparsity: of every row; NaN where it is decided in the trial.
    """

    seen: Sequence[Seen]
    at: numpy.ndarray[Any, numpy.dtype[numpy.int64]]
    pending: numpy.ndarray[Any, numpy.dtype[numpy.int64]]
    sparsity: numpy.ndarray[Any, numpy.dtype[numpy.float64]]

    def of(self, with_prior: Nodes, without: Nodes, metric: str, direction: str) -> Modelled:
        """A metric; the prior speaks of errors only."""
        if metric == SPARSITY and not numpy.isnan(self.sparsity).any():
            sign = 1.0 if direction == "maximize" else -1.0
            return Modelled(Target(lambda value: sign * value, False), None, sign * self.sparsity)
        usable = [i for i, one in enumerate(self.seen) if _finite(one.figures.get(metric))]
        figures = [float(self.seen[i].figures[metric]) for i in usable]
        target = Target.of(metric, direction, figures)
        nodes = with_prior if target.is_error else without
        return Modelled(target, self._belief(nodes, self.at[usable], target.all(figures)))

    def _belief(self, nodes: Nodes, seen: numpy.ndarray[Any, numpy.dtype[numpy.int64]], values: Any) -> Belief:
        belief = believe(nodes, seen, values)
        if not len(self.pending):
            return belief
        expected = belief.expected[self.pending]
        return believe(nodes, numpy.concatenate([seen, self.pending]), numpy.concatenate([values, expected]))


def _finite(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)
