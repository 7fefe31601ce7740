"""What the records of a search say of its recipes: which networks were measured, what runs, what is stored."""

from __future__ import annotations

import operator
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from prune_search.ledger.records import Record, TrialRecords, place_in
from prune_search.recipe.problems import UserError
from prune_search.recipe.recipe import Recipe
from prune_search.search.guided.candidates import Candidate, EpochOf
from prune_search.search.guided.features import Network, network

# Measurements that are looked at, at most, and how many of more are left out at once.
MOST_SEEN, LEFT_OUT = 200, 96


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
        trial: its id.
        candidate: its recipe.
        seen: what was measured of it.
        running: whether it has not ended.
        completed: whether it ran to its end.
        number: of the trial, from 1.
    """

    trial: str
    candidate: Candidate
    seen: tuple[Seen, ...]
    running: bool
    completed: bool
    number: int = 0


@dataclass(frozen=True)
class _Read:
    """What a trial's records said.

    Attributes:
        proposed: the record.
        ended: the record.
        measured: how many measurements were looked at.
        past: what they said.
    """

    proposed: Record | None
    ended: Record | None
    measured: int
    past: Past | None

    def reads(self, trial: TrialRecords, measured: int) -> bool:
        """Whether a trial's records still say so."""
        same = self.proposed is trial.proposed or self.proposed == trial.proposed
        return same and self.measured == measured and (self.ended is trial.ended or self.ended == trial.ended)


@dataclass(frozen=True)
class Reader:
    """Reads trials; what follows from records that will not change is computed once.

    Attributes:
        epoch_of: iterations in an epoch of a recipe, or None where they are not known.
    """

    epoch_of: EpochOf
    _ends: dict[str, Network] = field(default_factory=dict, repr=False)
    _recipes: dict[str, Candidate] = field(default_factory=dict, repr=False)
    _kept: dict[str, _Read] = field(default_factory=dict, repr=False)
    _first: list[TrialRecords] = field(default_factory=list, repr=False)
    _said: list[Past] = field(default_factory=list, repr=False)

    def remember(self, recipes: Iterable[Candidate]) -> None:
        """Recipes that trials can have: they are not read anew then."""
        for one in recipes:
            self._recipes.setdefault(one.digest, one)

    def all(self, trials: Sequence[TrialRecords], running: bool = True) -> list[Past]:
        """What trials say, in the order of their numbers; controls and recipes that cannot be placed are left out.

        Args:
            trials: in any order.
            running: whether what trials that have not ended have measured so far is read.
        """
        ordered = sorted(trials, key=operator.attrgetter("id"))
        # Of those at the beginning that have ended nothing new will be known.
        if ordered[: len(self._first)] != self._first:
            self._first.clear()
            self._said.clear()
        found, settled = list(self._said), True
        for trial in ordered[len(self._first) :]:
            one = None if trial.control else self.past(trial, running)
            if one is not None:
                found.append(one)
            settled = settled and trial.ended is not None and trial.paused is None
            if settled:
                self._first.append(trial)
                self._said.extend([] if one is None else [one])
        return found

    def past(self, trial: TrialRecords, running: bool = True) -> Past | None:
        """What a trial's records say; None of a control, or of a recipe that cannot be placed."""
        # Records are read anew whenever a trial goes on, so that this is kept beside them: by what does not change.
        read = trial if running or trial.ended is not None else replace(trial, measured=_before_it_went_on(trial))
        measured = len(read.measured)
        kept = self._kept.get(trial.id)
        if kept is not None and kept.reads(trial, measured):
            return kept.past
        found = None
        if trial.proposed is not None and trial.proposed.data["sampler"] is not None:
            found = self._read(read, measured > 0 or trial.ended is not None)
        self._kept[trial.id] = _Read(trial.proposed, trial.ended, measured, found)
        return found

    def _read(self, trial: TrialRecords, measured: bool) -> Past | None:
        data = {} if trial.proposed is None else trial.proposed.data
        try:
            one = self._candidate(trial, data)
        except UserError:
            return None
        if trial.duplicate_of is not None:
            return Past(trial.id, one, (), False, False, int(data["number"]))
        if not measured:
            return Past(trial.id, one, (), trial.ended is None, False, int(data["number"]))
        completed = trial.status == "completed"
        found = [Seen(network(one, number), record.figures, False) for number, record in _rounds(trial, completed)]
        if not completed and (middle := _middle(trial)) is not None and one.timeline.retrain_steps:
            number, step = int(middle.data["round"]), int(middle.data["step"])
            done = min(1.0, step / one.timeline.retrain_steps)
            found.append(Seen(network(one, number, done), middle.figures, False))
        if completed:
            found.append(Seen(self.end(one), trial.metrics, True))
        return Past(trial.id, one, tuple(found), trial.ended is None, completed, int(data["number"]))

    def _candidate(self, trial: TrialRecords, data: Mapping[str, Any]) -> Candidate:
        """A trial's recipe.

        Raises:
            UserError: it cannot be placed on its clock.
        """
        return self._placed(data.get("digest"), trial.recipe, data)

    def placed(self, digest: str, recipe: Mapping[str, Any], data: Mapping[str, Any]) -> Candidate | None:
        """A recipe that a trial's proposal names; None of one that cannot be placed on its clock.

        Args:
            digest: of the recipe.
            recipe: canonical.
            data: of the ``proposed`` record, with what was drawn.
        """
        try:
            return self._placed(digest, recipe, data)
        except UserError:
            return None

    def _placed(self, digest: str | None, canonical: Mapping[str, Any], data: Mapping[str, Any]) -> Candidate:
        given: dict[str, Any] = {"option": str(data.get("option", "")), "params": data["params"]}
        given["drawn"] = data["sampler"]["params"]
        if digest is None or digest not in self._recipes:
            recipe = Recipe.from_canonical(canonical)
            one = Candidate.of(recipe, self.epoch_of(recipe) or 1, **given)
            self._recipes[one.digest] = one
            return one
        return replace(self._recipes[digest], **given)

    def end(self, one: Candidate) -> Network:
        """What a recipe ends with; computed once."""
        if one.digest not in self._ends:
            self._ends[one.digest] = network(one, one.recipe.rounds)
        return self._ends[one.digest]


def _rounds(trial: TrialRecords, completed: bool) -> Iterator[tuple[int, Record]]:
    """What was measured at the ends of rounds; of a completed trial without the last, which its result has."""
    ends = [record for record in trial.measured if record.data.get("step") is None]
    for record in ends[:-1] if completed else ends:
        yield int(record.data["round"]), record


def _middle(trial: TrialRecords) -> Record | None:
    """The last measurement of a trial, where it was in the middle of a retraining."""
    last = trial.measured[-1] if trial.measured else None
    return last if last is not None and last.data.get("step") is not None else None


def looked_at(past: Sequence[Past]) -> list[Seen]:
    """The measurements that count, in the order of their trials.

    Of too many the oldest are left out, first of those on the way. Several are left out at once, so that from one
    proposal to the next the others stay the first ones.
    """
    everything = [one for trial in past for one in trial.seen]
    beyond = len(everything) - MOST_SEEN
    if beyond <= 0:
        return everything
    oldest = sorted(range(len(everything)), key=lambda place: everything[place].last)
    out = set(oldest[: -(-beyond // LEFT_OUT) * LEFT_OUT])
    return [one for place, one in enumerate(everything) if place not in out]


def _before_it_went_on(trial: TrialRecords) -> list[Record]:
    """What a trial that runs had measured when it was promoted: that will not change; nothing where it never was."""
    if not trial.promotions:
        return []
    last = place_in(trial.promotions[-1].data)
    return [one for one in trial.measured if place_in(one.data) <= last]
