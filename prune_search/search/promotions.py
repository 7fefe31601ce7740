"""Decides from its records which paused trial of a search continues.

Every start of a trial is a turn: it was proposed then, or promoted. In a reproducible search turn t is decided by what
came of exactly turns 1 … t-c (c = concurrency), as if nothing were known of later ones.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Any

from prune_search.ledger.ranking import Dense
from prune_search.ledger.records import TrialRecords
from prune_search.search.rungs import Maturity, maturity_of
from prune_search.search.schedulers import Decisions, PromotingRule, make_promoting_rule


def known_by(trial: TrialRecords, last: int) -> TrialRecords:
    """A trial as it may be looked at where turns up to `last` count: what later ones have led to is not there yet."""
    if trial.turn <= last:
        return trial
    measured = [record for record in trial.measured if trial.turn_at(record) <= last]
    return replace(trial, ended=None, measured=measured)


@dataclass
class Promotions:
    """The paused trials of a search, and which of them goes on.

    Attributes:
        decisions: over the search.
        rule: of its scheduler.
    """

    decisions: Decisions
    rule: PromotingRule
    _resting: dict[Maturity, dict[str, TrialRecords]] = field(default_factory=dict)
    _where: dict[str, Maturity] = field(default_factory=dict)
    # By place, what was looked at the last time nobody was to go on from there.
    _none: dict[Maturity, tuple[Any, ...]] = field(default_factory=dict)

    @classmethod
    def of(cls, block: Mapping[str, Any]) -> Promotions | None:
        """Those of a search, by its canonical search block; None where its scheduler pauses no trial."""
        rule = make_promoting_rule(block["scheduler"])
        return None if rule is None else cls(Decisions(block), rule)

    def learn(self, trial: TrialRecords) -> None:
        """Take in a trial, or a later reading of its records."""
        self.decisions.places.update(trial)
        if (before := self._where.pop(trial.id, None)) is not None:
            del self._resting[before][trial.id]
        # A repeated recipe rests and goes on with the one that it repeats.
        maturity = None if trial.duplicate_of is not None else _rests_at(trial)
        if maturity is not None:
            self._where[trial.id] = maturity
            self._resting.setdefault(maturity, {})[trial.id] = trial

    def best(self, last: int | None, dense: Dense) -> TrialRecords | None:
        """The trial that is to go on: of the furthest place from which one is, the best one; None where none is.

        Args:
            last: the last turn that counts; None: all do.
            dense: metrics of the dense network, or None.
        """
        for maturity in sorted((place for place, resting in self._resting.items() if resting), key=_furthest_first):
            found = self._at(maturity, last, dense)
            if found is not None:
                return found
        return None

    def _at(self, maturity: Maturity, last: int | None, dense: Dense) -> TrialRecords | None:
        resting = {key: one for key, one in self._resting[maturity].items() if last is None or one.turn <= last}
        if not resting:
            return None
        goals, rung = self.decisions.goals, self.decisions.places.at(maturity)
        compared = rung.compared(next(iter(resting)), goals, dense, last)
        looked_at = (len(compared), tuple(resting), dict(dense or {}) if goals.needs_dense else None)
        if self._none.get(maturity) == looked_at:
            return None
        first = compared.first_of(resting.keys(), goals, dense)
        if first is not None and self.rule.promotes(replace(compared, own=first), goals, dense):
            return resting[first.trial.id]
        self._none[maturity] = looked_at
        return None


def _rests_at(trial: TrialRecords) -> Maturity | None:
    paused = trial.paused
    record = None if paused is None else trial.measured_at(paused["round"], paused["step"])
    return None if record is None else maturity_of(trial, record)


def _furthest_first(maturity: Maturity) -> tuple[bool, Decimal]:
    """The last retraining before rounds that come before it, and later places before earlier ones."""
    sparsity, mark = maturity
    at = sparsity if mark is None else str(mark).removesuffix("%")
    return mark is None, -Decimal(str(at))
