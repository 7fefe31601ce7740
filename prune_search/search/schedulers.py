"""Stops or pauses trials early, by pure functions of the records, so a resume loses nothing.

Trials are compared at equal maturity only: in the last retraining at the same number of steps since the asked sparsity
was reached, or at the same share of all that there are from there, and after each round among trials of equal reached
sparsity; never at a raw step.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from decimal import Decimal
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from prune_search.ledger.ranking import Dense, Goals
from prune_search.ledger.records import Record
from prune_search.recipe.axes import SCHEDULERS
from prune_search.recipe.facts import Scheduler
from prune_search.recipe.fields import Integer, Length
from prune_search.recipe.problems import Problem
from prune_search.recipe.recipe import Named
from prune_search.recipe.registry import Option
from prune_search.recipe.search_block import measured_at_the_end_only
from prune_search.recipe.step import Step
from prune_search.search.rungs import Compared, Mark, Maturity, Places, Seen, mark_of, maturity_of

if TYPE_CHECKING:
    from prune_search.recipe.space import Space


@runtime_checkable
class StoppingRule(Protocol):
    """Decides whether a trial is stopped."""

    def measure_at(self, total: int) -> Mapping[int, Mark]:
        """Where it wants the network measured.

        Args:
            total: length of the last retraining in steps, from where the asked sparsity is reached.

        Returns:
            Steps from there, in ascending order, each in 1 … total - 1, and the mark at which each is compared.
        """

    def stop(self, compared: Compared, goals: Goals, dense: Dense) -> bool:
        """Whether a trial is stopped at a measurement of its own.

        Args:
            compared: the trial among those that were measured at the same maturity.
            goals: of the search.
            dense: metrics of the dense network, or None; nothing is stopped while a constraint waits for them.
        """


@runtime_checkable
class PromotingRule(StoppingRule, Protocol):
    """Lets a trial rest where a stopping rule stops it, and decides when it goes on."""

    def promotes(self, compared: Compared, goals: Goals, dense: Dense) -> bool:
        """Whether a paused trial goes on, seen what was measured where it rests.

        Of the trials that rest at a place the best one is asked about (`rungs.Compared.order`): where it does not go
        on, none does.

        Args:
            compared: the trial among those that were measured at the same maturity.
            goals: of the search.
            dense: metrics of the dense network, or None.
        """


@dataclass(frozen=True)
class Decisions:
    """Decides over the trials of one search, from its records.

    Attributes:
        block: the search block.
        places: what was measured where.
    """

    block: Mapping[str, Any]
    places: Places = field(default_factory=Places)

    @cached_property
    def goals(self) -> Goals:
        """Of the search."""
        return Goals.of(self.block)

    def stops(self, trial_id: str, maturity: Maturity, epoch: int, dense: Dense) -> bool:
        """Whether a trial is stopped at a measurement of its own.

        Args:
            trial_id: of the trial.
            maturity: of the measurement, which `places` must have.
            epoch: iterations in an epoch of the trial.
            dense: metrics of the dense network, or None.
        """
        trial = self.places.trial(trial_id)
        turn = int(trial_id) if trial is None else trial.turn
        # As for proposals: exactly what was started in turns 1 … t-c counts, so that a resumed search decides alike.
        last = turn - self.block["concurrency"] if self.block["reproducible"] else None
        compared = self.places.at(maturity).compared(trial_id, self.goals, dense, last)
        if compared.own is not None and compared.own.trial.turn_at(compared.own.record) < turn:
            # It was promoted from there, and trains again what came before a state that is gone.
            return False
        return make_stopping_rule(self.block["scheduler"], epoch).stop(compared, self.goals, dense)


@dataclass(frozen=True)
class Never:
    """Stops nothing."""

    def measure_at(self, total: int) -> Mapping[int, Mark]:
        """Nowhere."""
        return {}

    def stop(self, compared: Compared, goals: Goals, dense: Dense) -> bool:
        """No."""
        return False


@SCHEDULERS.register(
    "none",
    summary="every trial runs to its end",
    source="nothing is stopped",
    facts=Scheduler(mid_training=False),
)
def none(epoch: int) -> Never:
    """Nothing is stopped."""
    return Never()


@dataclass(frozen=True)
class SuccessiveHalving:
    """The stopping form of asynchronous successive halving.

    Rung k lies at ``grace · eta**k`` steps of the last retraining, or at so many percent of it, and after round
    ``eta**k`` of an iterative pruning among trials of equal reached sparsity. Of the n trials that were measured at a
    rung, the best ``max(1, n // eta)`` go on: a trial is stopped where at least so many lie on a better rank. The rank
    is the constrained non-dominated one (`Goals.ranks`), with one objective simply the place; trials of equal rank
    share their fate. A trial is judged once, when it arrives: the first at a rung always goes on.

    Attributes:
        grace: to the first rung, in steps or percent.
        eta: one of so many goes on.
        percent: whether rungs are shares of each trial's own retraining: one that is planned to be longer lowers its
            learning rate later, and is behind a shorter one at the same step, however the two end.
        places: whether trials of equal rank are told apart, with several objectives, so that as many go on as are
            meant to (`rungs.Compared.before`).

    Example:
        grace 10, eta 3: rungs at 10, 30, 90 … Of seven trials at a rung the best two go on.
    """

    grace: Decimal
    eta: int
    percent: bool = False
    places: bool = False

    def measure_at(self, total: int) -> Mapping[int, Mark]:
        """The rungs."""
        rungs: dict[int, Mark] = {}
        rung = self.grace
        while rung < (100 if self.percent else total):
            step, mark = self._place(rung, total)
            if 0 < step < total:
                rungs[step] = mark
            rung *= self.eta
        return rungs

    def _place(self, rung: Decimal, total: int) -> tuple[int, Mark]:
        if not self.percent:
            return int(rung), int(rung)
        share = Step(percent=rung.normalize(), unit="%")
        return share.resolve(total, 1), str(share)

    def stop(self, compared: Compared, goals: Goals, dense: Dense) -> bool:
        """Whether enough trials at the rung are better."""
        own = compared.own
        if own is None or not self._on_rung(own.record) or not own.known:
            return False
        return self._behind(compared, goals, dense)

    def promotes(self, compared: Compared, goals: Goals, dense: Dense) -> bool:
        """Whether it is among the best at its rung by now."""
        return compared.own is not None and not self._behind(compared, goals, dense)

    def _behind(self, compared: Compared, goals: Goals, dense: Dense) -> bool:
        ahead = compared.before(goals, dense) if self.places else compared.better(goals, dense)
        return ahead >= max(1, len(compared) // self.eta)

    def _on_rung(self, record: Record) -> bool:
        mark, rung = mark_of(record), self.grace
        if mark is None:
            mark, rung = record.data["round"], Decimal(1)
        elif isinstance(mark, str) != self.percent:
            return False
        at = Decimal(str(mark).removesuffix("%"))
        while rung < at:
            rung *= self.eta
        return rung == at


ASHA = "Li et al. 2020, A System for Massively Parallel Hyperparameter Tuning, 1810.05934, algorithm 2"
RUNGS = {
    "grace": Option(
        Length(positive=True),
        "1ep",
        "length of retraining before the first rung; 10%: rungs at shares of each trial's own retraining",
    ),
    "eta": Option(Integer(2, 100), 3, "one in this many trials continues from a rung"),
}


@SCHEDULERS.register(
    "asha",
    summary="the best 1/eta continue at grace, grace·eta, grace·eta² … of the last retraining, in steps or percent",
    source=ASHA,
    options=RUNGS,
    facts=Scheduler(keeps=lambda *, grace, eta: 1 / eta),
)
def asha(epoch: int, *, grace: str, eta: int) -> SuccessiveHalving:
    """Asynchronous successive halving; several objectives by non-dominated rank."""
    length = Step.parse(grace)
    if length.percent is not None:
        return SuccessiveHalving(length.percent, eta, percent=True)
    return SuccessiveHalving(Decimal(length.resolve(0, epoch)), eta)


@SCHEDULERS.register(
    "asha-promote",
    summary="like asha, but the others are paused, and continue from their stored states once they are among the best",
    source=f"{ASHA}; several objectives: Schmucker et al. 2021, Multi-objective Asynchronous Successive Halving, "
    "2106.12639",
    options=RUNGS,
    facts=Scheduler(keeps=lambda *, grace, eta: 1 / eta, promotes=True),
)
def asha_promote(epoch: int, *, grace: str, eta: int) -> SuccessiveHalving:
    """Asynchronous successive halving that pauses and promotes.

    With several objectives the best 1/eta are those of the first non-dominated fronts, under the constraints; of the
    front that does not fit as a whole, those that cover it (`rungs.spread`).
    """
    return replace(asha(epoch, grace=grace, eta=eta), places=True)


@dataclass(frozen=True)
class MedianRule:
    """Stops a trial whose best value so far is strictly worse than the median of the others' running averages.

    In the last retraining, at step s ≥ grace: let S be the steps up to s at which the trial was measured. Its best
    value over S is compared with the median, over the other trials that were measured at s, of their mean value over
    the steps of S at which they were measured. After a round, the values at that place are compared, among trials of
    equal reached sparsity. Others count whether they went on from there or not (in the source, those that completed);
    a trial that breaks a constraint which this one keeps is no yardstick for it.

    Attributes:
        grace: steps before anything is stopped.
        startup: other trials measured at a place before anything is stopped there.

    Example:
        Accuracies .5 .6 .7 against averages .6 .65 .72 of three others: .7 is above the median .65, and goes on.
    """

    grace: int
    startup: int

    def measure_at(self, total: int) -> Mapping[int, Mark]:
        """Every `grace` steps."""
        return {step: step for step in range(self.grace, total, self.grace)}

    def stop(self, compared: Compared, goals: Goals, dense: Dense) -> bool:
        """Whether the trial is worse than the median.

        Raises:
            ValueError: there are several objectives (see `check_scheduler`).
        """
        if len(goals.objectives) != 1:
            raise ValueError("the median rule takes a single objective")
        own = compared.own
        if own is None or not own.known:
            return False
        step = own.record.data["step"]
        if step is not None and step < self.grace:
            return False
        kept = _kept(own, goals, dense)
        curve = _curve(own, goals)
        seen = [other for other in compared.all() if other is not own]
        others = [_curve(other, goals) for other in seen if kept <= _kept(other, goals, dense)]
        averages = [statistics.fmean(value for at, value in other.items() if at in curve) for other in others]
        return len(averages) >= self.startup and max(curve.values()) < statistics.median(averages)


def _curve(seen: Seen, goals: Goals) -> dict[int | None, float]:
    """The objective by step of the last retraining, up to the measurement; after a round that alone."""
    step = seen.record.data["step"]
    curve: dict[int | None, float] = {}
    for record in seen.trial.measured:
        at = record.data["step"] if maturity_of(seen.trial, record) is not None else None
        inside = record is seen.record or (step is not None and at is not None and at <= step)
        values = goals.values(record.figures) if inside else None
        if values is not None:
            curve[at] = goals.signed(values)[0]
    return curve


def _kept(seen: Seen, goals: Goals, dense: Dense) -> set[int]:
    """Which constraints are kept."""
    violations = goals.violations(seen.record.figures, dense) or []
    return {place for place, violation in enumerate(violations) if violation <= 0}


@SCHEDULERS.register(
    "median",
    summary="stops trials that are worse than the median of the others' running averages; one objective only",
    source="Golovin et al. 2017, Google Vizier: A Service for Black-Box Optimization",
    options={
        "grace": Option(Length(positive=True, absolute=True), "1ep", "length of retraining before anything is stopped"),
        "startup": Option(
            Integer(1, 100_000),
            5,
            "number of other trials that must be measured at a point before any trial is stopped there",
        ),
    },
    facts=Scheduler(several_objectives=False, keeps=lambda **options: 0.5),
)
def median(epoch: int, *, grace: str, startup: int) -> MedianRule:
    """The median stopping rule."""
    return MedianRule(Step.parse(grace).resolve(0, epoch), startup)


def make_stopping_rule(scheduler: Any, epoch: int) -> StoppingRule:
    """The judge of a canonical ``search.scheduler``.

    Args:
        scheduler: its name, or a mapping with its name and options.
        epoch: iterations in an epoch of the trial that is judged.
    """
    named = Named.of(SCHEDULERS, scheduler)
    return named.entry(SCHEDULERS).build(StoppingRule, epoch, **named.options)


def make_promoting_rule(scheduler: Any) -> PromotingRule | None:
    """The rule that decides which paused trials go on; None of a scheduler that pauses none."""
    named = Named.of(SCHEDULERS, scheduler)
    entry = named.entry(SCHEDULERS)
    return entry.build(PromotingRule, 1, **named.options) if entry.facts.promotes else None


def check_scheduler(space: Space) -> list[Problem]:
    """What is wrong with the scheduler of a space, for `launch` to refuse."""
    named = Named.of(SCHEDULERS, space.search["scheduler"])
    facts = named.entry(SCHEDULERS).facts
    several = len(space.search["objectives"])
    late = measured_at_the_end_only(space.search)
    if late and facts.mid_training:
        able = " or ".join(name for name, entry in SCHEDULERS.items() if not entry.facts.mid_training)
        text = f"{named.name} compares trials during their training, when {late[0]} is not measured"
        advice = f"use {able}, or leave {late[0]} out of the objectives and constraints"
        return [Problem("search.scheduler", f"{text}: {advice}")]
    if several == 1 or facts.several_objectives:
        return []
    able = " or ".join(name for name, entry in SCHEDULERS.items() if entry.facts.several_objectives)
    text = f"{named.name} ranks by a single metric, but there are {several} objectives: use {able}"
    return [Problem("search.scheduler", text)]
