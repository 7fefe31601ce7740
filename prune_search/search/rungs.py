"""Collects the trials measured at the same maturity, for stopping rules to compare."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from prune_search.ledger.ranking import Dense, Goals, total_violation
from prune_search.ledger.records import Record, TrialRecords

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
else:
    from prune_search.lazy import numpy as np

SPARSITY_DIGITS = 6

# In the last retraining: steps since the asked sparsity was reached, or the share ("10%") of all that there are.
Mark = int | str
# (reached sparsity, None) after a round; (None, mark) in the last retraining.
Maturity = tuple[float | None, Mark | None]


def mark_of(measured: Record) -> Mark | None:
    """Where in its retraining something was measured; None at the end."""
    step, share = measured.data["step"], measured.data.get("share")
    return None if step is None else int(step) if share is None else str(share)


def mark_fields(step: int | None, mark: Mark | None = None) -> dict[str, Any]:
    """How a ``measured`` record says where it was: `mark_of` reads it.

    Args:
        step: since the asked sparsity was reached; None at the end of a round.
        mark: at which it is compared.
    """
    return {"step": step, "share": mark} if isinstance(mark, str) else {"step": step}


def maturity_of(trial: TrialRecords, measured: Record) -> Maturity | None:
    """Where a ``measured`` record can be compared with those of other trials; None in a retraining before the last."""
    mark = mark_of(measured)
    if mark is None:
        return round(float(measured.data["sparsity"]), SPARSITY_DIGITS), None
    return (None, mark) if measured.data["round"] == trial.recipe["rounds"] else None


@dataclass(frozen=True)
class Seen:
    """One trial's measurement at the maturity at which trials are compared.

    Attributes:
        trial: the trial.
        record: its measurement.
        violation: the total by which the constraints are violated; those that cannot be judged yet count as met.
        cost: the first objective, larger is worse.
        known: whether all constraints can be judged.
    """

    trial: TrialRecords
    record: Record
    violation: float
    cost: float
    known: bool


@dataclass(frozen=True, eq=False)
class Compared:
    """A trial among those that it is compared with.

    Attributes:
        own: its measurement; None where it has none that can be compared.
        seen: of all trials at the rung; None of one that is not compared.
        orders: [2, n], per trial violation and cost, not a number where it is not compared.
        counts: [n], whether a trial counts here. Its own always does.
    """

    own: Seen | None
    seen: list[Seen | None]
    orders: NDArray[np.float64]
    counts: NDArray[np.bool_]

    def __len__(self) -> int:
        """How many trials count, its own among them."""
        return int(np.count_nonzero(self.counts))

    def all(self) -> list[Seen]:
        """The measurements that count, its own among them."""
        return [seen for seen, counts in zip(self.seen, self.counts, strict=True) if counts and seen is not None]

    def before(self, goals: Goals, dense: Dense) -> int:
        """How many come before its own: on a better rank, or on the same one and earlier in the order of `spread`.

        With one objective trials of equal rank come before none of each other.

        Raises:
            ValueError: it has no measurement of its own here.
        """
        if len(goals.objectives) == 1 or self.own is None:
            return self.better(goals, dense)
        return next(place for place, seen in enumerate(self.order(goals, dense)) if seen is self.own)

    def first_of(self, wanted: Collection[str], goals: Goals, dense: Dense) -> Seen | None:
        """The first in order of some trials, by their ids; None where none of them counts."""
        if len(goals.objectives) == 1:
            those = (seen for seen in self.all() if seen.trial.id in wanted)
            return min(those, key=lambda one: (one.violation, one.cost, one.trial.id), default=None)
        return next((seen for seen in self.order(goals, dense) if seen.trial.id in wanted), None)

    def order(self, goals: Goals, dense: Dense) -> list[Seen]:
        """All that count, by rank and, where ranks are equal, so that the front is covered evenly (`spread`)."""
        seen = sorted(self.all(), key=lambda one: one.trial.id)
        ranks = goals.ranks([one.record.figures for one in seen], dense)
        fronts: dict[int, list[Seen]] = {}
        for one, rank in zip(seen, ranks, strict=True):
            fronts.setdefault(rank, []).append(one)
        ordered: list[Seen] = []
        for _, front in sorted(fronts.items()):
            points = [goals.signed(goals.values(one.record.figures) or ()) for one in front]
            ordered += [front[place] for place in spread(points)]
        return ordered

    def better(self, goals: Goals, dense: Dense) -> int:
        """How many lie on a better rank (`Goals.ranks`) than its own.

        Raises:
            ValueError: it has no measurement of its own here.
        """
        own = self.own
        if own is None:
            raise ValueError("the trial was not measured here")
        if len(goals.objectives) == 1:
            violation, cost = self.orders
            before = (violation < own.violation) | ((violation == own.violation) & (cost < own.cost))
            return int(np.count_nonzero(before & self.counts))
        others = self.all()
        ranks = goals.ranks([other.record.figures for other in others], dense)
        mine = next(rank for rank, other in zip(ranks, others, strict=True) if other is own)
        return sum(rank < mine for rank in ranks)


@dataclass
class Rung:
    """The trials that were measured at a maturity.

    A measurement never changes, so that each is looked at once for the same goals and dense network: a rung is judged
    again for each trial that arrives.

    Attributes:
        maturity: of the measurements.
    """

    maturity: Maturity
    _changed: dict[str, TrialRecords] = field(default_factory=dict)
    _places: dict[str, int] = field(default_factory=dict)
    _trials: list[TrialRecords] = field(default_factory=list)
    _seen: list[Seen | None] = field(default_factory=list)
    # Rows: turn that led to the measurement, violation, cost; more columns than trials, so that a new one copies none.
    _figures: NDArray[np.float64] = field(default_factory=lambda: np.empty((3, 16)))
    _judged_by: tuple[Goals, Dense] | None = None

    @classmethod
    def of(cls, maturity: Maturity, trials: Iterable[TrialRecords]) -> Rung:
        """The rung with some trials."""
        rung = cls(maturity)
        for trial in trials:
            rung.put(trial)
        return rung

    def put(self, trial: TrialRecords) -> None:
        """Take in a trial, or a later reading of its records."""
        self._changed[trial.id] = trial

    def compared(self, trial_id: str, goals: Goals, dense: Dense, last: int | None = None) -> Compared:
        """A trial among those that were measured here.

        Controls, repeated recipes and trials without a finite figure for each objective are left out.

        Args:
            trial_id: of the trial.
            goals: of the search.
            dense: metrics of the dense network, or None.
            last: turn of the last start whose measurements count besides its own (see `TrialRecords.turn`); None: all
                count.
        """
        self._settle(goals, dense)
        count = len(self._trials)
        turns, violations = self._figures[0, :count], self._figures[1, :count]
        counts = ~np.isnan(violations)
        place = self._places.get(trial_id)
        if last is not None:
            chosen = turns <= last
            if place is not None:
                chosen[place] = True
            counts &= chosen
        own = None if place is None else self._seen[place]
        return Compared(own, self._seen, self._figures[1:, :count], counts)

    def _settle(self, goals: Goals, dense: Dense) -> None:
        by = (goals, dict(dense or {}) if goals.needs_dense else None)
        if self._judged_by is None or self._judged_by[0] is not goals or self._judged_by[1] != by[1]:
            self._judged_by = by
            for trial in self._trials:
                self._changed.setdefault(trial.id, trial)
        for trial in self._changed.values():
            self._write(trial, goals, dense)
        self._changed.clear()

    def _write(self, trial: TrialRecords, goals: Goals, dense: Dense) -> None:
        place = self._places.setdefault(trial.id, len(self._trials))
        if place == len(self._trials):
            self._trials.append(trial)
            self._seen.append(None)
            if place == self._figures.shape[1]:
                self._figures = np.concatenate([self._figures, np.empty_like(self._figures)], axis=1)
        seen = None if trial.control or trial.duplicate_of is not None else _seen(trial, self.maturity, goals, dense)
        self._trials[place], self._seen[place] = trial, seen
        figures = (0.0, np.nan, np.nan)
        if seen is not None:
            figures = (float(trial.turn_at(seen.record)), seen.violation, seen.cost)
        self._figures[:, place] = figures


def spread(points: Sequence[Sequence[float]]) -> list[int]:
    """An order of the points of a front in which the first so many cover it, however many are taken.

    First the best one in the first coordinate, then again and again the one that lies farthest from all before it, each
    coordinate scaled to the range of the front; of equal ones the first. It is the order by an epsilon-net in which
    multi-objective successive halving takes the trials of a front (Schmucker et al. 2021, 2106.12639, section 3.2;
    Salinas et al. 2021, 2106.05680).

    Args:
        points: [n, objectives], finite, larger is better.

    Returns:
        [n], their indices.

    Example:
        >>> spread([(0.0, 1.0), (0.4, 0.5), (0.5, 0.4), (1.0, 0.0)])
        [3, 0, 1, 2]
    """
    scaled = np.asarray(points, dtype=np.float64)
    low, high = scaled.min(0), scaled.max(0)
    scaled = (scaled - low) / np.where(high > low, high - low, 1.0)
    # By the first coordinate, and where that is equal by the next ones.
    taken = [min(range(len(points)), key=lambda place: tuple(-value for value in points[place]))]
    distance = ((scaled - scaled[taken[0]]) ** 2).sum(1)
    distance[taken[0]] = -1.0
    while len(taken) < len(points):
        taken.append(int(np.argmax(distance)))
        distance = np.minimum(distance, ((scaled - scaled[taken[-1]]) ** 2).sum(1))
        distance[taken[-1]] = -1.0
    return taken


def _seen(trial: TrialRecords, maturity: Maturity, goals: Goals, dense: Dense) -> Seen | None:
    """The measurement of a trial at a maturity; None where there is none with a finite figure for each objective."""
    record = _measured_at(trial, maturity)
    values = None if record is None else goals.values(record.figures)
    if record is None or values is None:
        return None
    violations = goals.violations(record.figures, dense)
    cost = -goals.signed(values)[0]
    return Seen(trial, record, total_violation(violations), cost, violations is not None)


def _measured_at(trial: TrialRecords, maturity: Maturity) -> Record | None:
    sparsity, mark = maturity
    rounds = trial.recipe["rounds"]
    if isinstance(mark, str):
        inside = (record for record in trial.measured if record.data["round"] == rounds)
        return next((record for record in inside if mark_of(record) == mark), None)
    if mark is not None or sparsity is None:
        found = trial.measured_at(rounds, mark)
        return found if found is not None and mark_of(found) == mark else None
    wanted = round(sparsity, SPARSITY_DIGITS)
    ends = (trial.measured_at(number, None) for number in range(rounds, 0, -1))
    return next(
        (e for e in ends if e is not None and round(float(e.data["sparsity"]), SPARSITY_DIGITS) == wanted), None
    )


@dataclass
class Places:
    """Which trials of a search were measured where: what a judge compares, without a look at all trials.

    Computed from records only, so that whoever has read the same records has the same.
    """

    _trials: dict[str, tuple[TrialRecords, int]] = field(default_factory=dict)
    _rungs: dict[Maturity, Rung] = field(default_factory=dict)

    def update(self, trial: TrialRecords) -> None:
        """Take in what is new of a trial."""
        before, read = self._trials.get(trial.id, (trial, 0))
        # Another reading of the same trial stands for it everywhere, and can have its records in another order.
        for record in trial.measured[read if before is trial else 0 :]:
            maturity = maturity_of(trial, record)
            if maturity is not None:
                self._rungs.setdefault(maturity, Rung(maturity)).put(trial)
        self._trials[trial.id] = (trial, len(trial.measured))

    def trial(self, identity: str) -> TrialRecords | None:
        """The latest reading of a trial; None of one that was not seen yet."""
        found = self._trials.get(identity)
        return None if found is None else found[0]

    def at(self, maturity: Maturity) -> Rung:
        """The trials that were measured at a maturity."""
        sparsity, mark = maturity
        rung = (None if sparsity is None else round(sparsity, SPARSITY_DIGITS), mark)
        return self._rungs.get(rung) or Rung(rung)
