"""Tries a cheaper form of a recipe first, where what that tells is worth its price.

A cheaper form is a candidate beside its recipe: its gain is the recipe's times the correlation of the two, and its
price is its own. That is augmented expected improvement (Huang, Allen, Notz & Miller 2006, Structural and
Multidisciplinary Optimization 32), and the trade of information against cost of BOCA (Kandasamy et al. 2017,
1703.06240). The correlation is measured as the search goes on (see `ledger.fidelities`). A form whose correlation is no
longer worth its price is dropped; it comes back where later pairs say otherwise. What cheaper forms measured becomes
one more prior mean of the full recipes, whose level and slope are learned, and whose weight falls where it does not
explain them: full = ρ · cheap + δ, the autoregressive model of Kennedy & O'Hagan 2000 (Biometrika 87).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy

from prune_search.ledger.fidelities import LEAST_PAIRS, Judgement, figure_of, judged
from prune_search.ledger.ranking import Goals
from prune_search.ledger.records import TrialRecords
from prune_search.recipe.fidelity import Fidelity
from prune_search.recipe.problems import UserError
from prune_search.search.guided.candidates import Candidate, EpochOf
from prune_search.search.guided.features import Network
from prune_search.search.guided.kernel import Array
from prune_search.search.guided.past import Past, Reader
from prune_search.search.guided.surface import Surface
from prune_search.search.guided.targets import Target

# The steps that cheaper forms may ask for, over those of the full trials.
PART = 0.5
# Of so many recipes of the largest gains cheaper forms are looked at.
LOOKED_AT = 16
# Figures of a form from which it is a prior mean.
LEAST_FIGURES = 3
# Until enough pairs are known, at most so many cheaper forms wait for their full recipe.
MOST_UNPAIRED = LEAST_PAIRS


@dataclass(frozen=True)
class Cheaper:
    """A cheaper form of a recipe.

    Attributes:
        form: how it is made.
        of: the digest of the full recipe.
        candidate: the cheaper recipe.
        price: its steps over those of the full recipe, both from nothing, 0 … 1.
    """

    form: Fidelity
    of: str
    candidate: Candidate
    price: float


@dataclass(frozen=True)
class Tried:
    """A low-fidelity trial.

    Attributes:
        trial: its records.
        label: of its form.
        full: the recipe that it stands in for.
        past: what it asks of the tree; nothing of what it measured.
    """

    trial: TrialRecords
    label: str
    full: Candidate
    past: Past


@dataclass
class LowFidelities:
    """The cheaper forms of a search's recipes.

    Attributes:
        forms: of the search block.
        epoch_of: iterations in an epoch of a recipe, or None where they are not known.
        reader: of the full recipes.
        goals: of the search.
    """

    forms: Sequence[Fidelity]
    epoch_of: EpochOf
    reader: Reader
    goals: Goals
    _made: dict[tuple[str, str], Cheaper | None] = field(default_factory=dict, repr=False)
    _surfaces: dict[tuple[str, str, str, tuple[str, ...]], Surface] = field(default_factory=dict, repr=False)

    def tried(self, trials: Iterable[TrialRecords]) -> list[Tried]:
        """The low-fidelity trials, in the order of their numbers; those that cannot be placed are left out."""
        found = []
        for trial in sorted(trials, key=lambda one: one.id):
            data = {} if trial.proposed is None else trial.proposed.data
            told = data.get("fidelity")
            if told is None:
                continue
            full = self.reader.placed(told["of"], told["whole"], data)
            own = self.reader.placed(str(data.get("digest")), trial.recipe, data)
            if full is not None and own is not None:
                done = trial.status == "completed"
                past = Past(trial.id, own, (), trial.ended is None, done, int(data["number"]))
                found.append(Tried(trial, str(told["label"]), full, past))
        return found

    def expected(self, tried: Sequence[Tried], metric: str, direction: str) -> list[Surface]:
        """What each form that measured a metric often enough lets one expect of it in full recipes."""
        found = []
        for form in self.forms:
            there = [
                (one, value)
                for one in tried
                if one.label == form.label and (value := figure_of(one.trial, metric)) is not None
            ]
            if len(there) < LEAST_FIGURES:
                continue
            key = (form.label, metric, direction, tuple(one.trial.id for one, _ in there))
            if key not in self._surfaces:
                networks: list[Network] = [self.reader.end(one.full) for one, _ in there]
                values = [value for _, value in there]
                self._surfaces[key] = Surface.of(networks, Target.of(metric, direction, values).all(values))
            found.append(self._surfaces[key])
        return found

    def offered(
        self,
        recipes: Sequence[Candidate],
        gains: Array,
        past: Sequence[Past],
        full: Sequence[TrialRecords],
        tried: Sequence[Tried],
    ) -> list[tuple[int, Cheaper, float]]:
        """The cheaper forms that can be chosen now: the place of the recipe, the form, and its correlation.

        All low-fidelity trials together never ask for more than half the steps of the full trials.

        Args:
            recipes: that could be tried.
            gains: [recipes], of each.
            past: the full trials so far, as read.
            full: their records.
            tried: the low-fidelity trials so far.
        """
        if not self.forms:
            return []
        judgements = judged(self.forms, [one.trial for one in tried], full, self.goals)
        usable = [
            (form, told) for form, told in zip(self.forms, judgements, strict=True) if told.used and not _waits(told)
        ]
        if not usable:
            return []
        known = {(one.full.digest, one.label) for one in tried}
        left = PART * sum(one.candidate.steps for one in past) - sum(one.past.candidate.steps for one in tried)
        found = []
        for place in numpy.argsort(-gains, kind="stable")[:LOOKED_AT].tolist():
            for form, told in usable:
                if (recipes[place].digest, form.label) in known:
                    continue
                cheaper = self.of(recipes[place], form)
                if cheaper is not None and cheaper.candidate.steps <= left:
                    found.append((place, cheaper, told.correlation))
        return [one for one in found if one[2] > 0]

    def of(self, full: Candidate, form: Fidelity) -> Cheaper | None:
        """A cheaper form of a recipe; None where there is none that is cheaper."""
        key = (full.digest, form.label)
        if key not in self._made:
            self._made[key] = self._make(full, form)
        return self._made[key]

    def _make(self, full: Candidate, form: Fidelity) -> Cheaper | None:
        try:
            # Where the length of an epoch is not known, nothing that is written in epochs can be shortened.
            epoch = self.epoch_of(full.recipe)
            recipe = None if epoch is None else form.of_recipe(full.recipe, epoch)
            if recipe is None:
                return None
            one = Candidate.of(recipe, self.epoch_of(recipe) or 1, full.option, full.params, full.drawn)
        except UserError:
            # Such as a training that is too short for its schedule.
            return None
        return Cheaper(form, full.digest, one, one.steps / full.steps) if one.steps < full.steps else None


def _waits(told: Judgement) -> bool:
    """Whether pairs are missing that are on their way."""
    return len(told.pairs) < LEAST_PAIRS and told.trials - len(told.pairs) >= MOST_UNPAIRED
