"""What a search believes so far: its best recipe over paid steps beside chance, and how each hole matters."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy

from prune_search.ledger.ranking import Goals
from prune_search.ledger.records import SearchRecords, TrialRecords
from prune_search.recipe.problems import UserError
from prune_search.recipe.space import Space
from prune_search.search.guided.candidates import Candidate, EpochOf, SharesDraw
from prune_search.search.guided.experience import stored_experience
from prune_search.search.guided.features import Frame
from prune_search.search.guided.gains import SPARSITY, Modelled, marginal_steps
from prune_search.search.guided.kernel import Array, Rows
from prune_search.search.guided.model import Model
from prune_search.search.guided.past import Past, Reader, looked_at
from prune_search.search.guided.recommend import (
    VALIDATION,
    WIDTH,
    Expected,
    best_expected,
    expected_figures,
    with_prior,
)
from prune_search.search.suggest import PinnedDraw
from prune_search.training.randomness import derive

# Recipes that chance draws from, and how often a search by chance is simulated.
DRAWN, SIMULATED, TRIES = 64, 50, 20
# Places of the course that are told of.
PLACES = 16
# Recipes in which one hole after the other is changed, values of a range, and holes.
BASES, VALUES, HOLES = 8, 5, 8
_LABEL = re.compile(r"any\[[^\]]*\]\.|\[[^\]]*\]")


@dataclass(frozen=True)
class _Drawn:
    """A recipe of the space.

    Attributes:
        candidate: the recipe.
        params: by the sampler's names.
        sizes: by the same, how many values are looked at.
    """

    candidate: Candidate
    params: Mapping[str, Any]
    sizes: Mapping[str, int]


@dataclass
class Outlook:
    """Tells what a search believes; recipes that it draws from the space are drawn once.

    Attributes:
        space: of the search.
        epoch_of: iterations in an epoch of a recipe, or None where they are not known.
        examples: training examples, of a data set whose size is not known before it is read.
    """

    space: Space
    epoch_of: EpochOf
    examples: int = 0
    _reader: Reader | None = field(default=None, repr=False)

    @property
    def reader(self) -> Reader:
        """Reads trials, and remembers what it has read."""
        if self._reader is None:
            self._reader = Reader(self.epoch_of)
        return self._reader

    @cached_property
    def drawn(self) -> list[_Drawn]:
        """Recipes by chance; those of invalid regions are drawn again."""
        source = random.Random(derive(self.space.search["seed"], "outlook"))
        found: list[_Drawn] = []
        for _ in range(TRIES * DRAWN):
            one = self._filled(lambda name: source.random())
            if one is not None:
                found.append(one)
            if len(found) == DRAWN:
                break
        return found

    def _filled(self, share: Callable[[str], float]) -> _Drawn | None:
        counted = _Counted(SharesDraw(share))
        drawn = self.space.fill(counted, examples=self.examples)
        one = self._read(drawn)
        return None if one is None else _Drawn(one, counted.rest.params, counted.sizes)

    def _read(self, drawn: Any) -> Candidate | None:
        try:
            recipe = drawn.recipe()
            return Candidate.of(recipe, self.epoch_of(recipe) or 1, drawn.option, drawn.params, {})
        except UserError:
            return None

    def tell(self, search: SearchRecords, effects: bool = True) -> dict[str, Any] | None:
        """What is believed of the first objective that is measured on validation data.

        Args:
            search: its records.
            effects: whether to tell how the holes matter too, which takes about a second.

        Returns:
            ``search``, ``metric`` and ``direction``; ``course``, by paid ``steps`` the expected ``value`` of the best
            recipe so far with its ``low`` and ``high`` ends, and what ``chance`` is expected to have reached by then
            (None where no recipe meets the constraints): all by what is believed now; and ``effects``, per hole its
            ``points``: at ``x`` the expected ``value``, ``low`` and ``high``, over recipes that differ in nothing else.
            None where nothing has completed, or no objective is measured on validation data.
        """
        goals = Goals.of(self.space.search)
        modelled = [(way, metric) for way, metric in goals.objectives if metric.startswith(VALIDATION)]
        past = self.reader.all(search.numbered())
        if not modelled or not any(one.completed for one in past) or not self.drawn:
            return None
        way, metric = modelled[0]
        changed = list(self._changed()) if effects else []
        everyone = [one.candidate for one in self.drawn] + [one for _, _, one in changed]
        beliefs = self._believed(search, past, everyone, goals, metric, way)
        return {
            "search": search.name,
            "metric": metric,
            "direction": way,
            "course": _course(search, goals, metric, self, beliefs),
            "effects": _effects([(name, x) for name, x, _ in changed], beliefs.first, len(self.drawn)),
        }

    def _believed(
        self,
        search: SearchRecords,
        past: Sequence[Past],
        recipes: Sequence[Candidate],
        goals: Goals,
        first: str,
        way: str,
    ) -> _Beliefs:
        seen = looked_at(past)
        ends = [*map(self.reader.end, recipes)]
        prior = with_prior(self.space.search["sampler"])
        model = Model(Frame.of([*ends, *(one.network for one in seen)], prior), seen, {"recipes": ends})
        learned = stored_experience(search.folder).expected(first, way)
        bounds: list[tuple[Modelled, float]] = []
        for metric, relation, bound in goals.constraints:
            reference = (search.dense or {}).get(metric) if bound.factor else 0.0
            if reference is not None and (metric.startswith(VALIDATION) or metric == SPARSITY):
                to = "maximize" if relation == ">=" else "minimize"
                bounds.append((model.of(metric, to, careful=True), bound.value(float(reference))))
        return _Beliefs(model.of(first, way, learned=learned), bounds)

    def _changed(self) -> Iterator[tuple[str, Any, Candidate]]:
        """Hole, value and recipe, one hole of a few recipes at a time."""
        bases = self.drawn[:BASES]
        names = list(dict.fromkeys(name for one in bases for name in one.params))[:HOLES]
        for name in names:
            for base in bases:
                for place in range(base.sizes.get(name, 0)):
                    draw = _Changed(base.params, name, (place + 0.5) / base.sizes[name])
                    drawn = self.space.fill(draw, examples=self.examples)
                    if (one := self._read(drawn)) is not None:
                        yield name, drawn.params.get(_LABEL.sub("", name), draw.value), one


@dataclass(frozen=True)
class _Beliefs:
    """What is believed of drawn recipes.

    Attributes:
        first: the first objective.
        bounds: modelled metrics of constraints, and their bounds.
    """

    first: Modelled
    bounds: Sequence[tuple[Modelled, float]]

    def met(self, rows: Rows) -> numpy.ndarray[Any, numpy.dtype[numpy.bool_]]:
        """[rows], whether the constraints are rather met than not."""
        found = numpy.ones(len(rows), dtype=bool)
        for modelled, bound in self.bounds:
            found &= modelled.chance(rows, bound) >= 0.5
        return found


@dataclass
class _Counted:
    """Draws shares, and remembers how many values each hole has."""

    rest: SharesDraw
    sizes: dict[str, int] = field(default_factory=dict)

    def choice(self, name: str, labels: tuple[str, ...]) -> int:
        self.sizes[name] = len(labels)
        return self.rest.choice(name, labels)

    def uniform(self, name: str, low: float, high: float, log: bool, step: float | None) -> float:
        self.sizes[name] = VALUES
        return self.rest.uniform(name, low, high, log, step)

    def integer(self, name: str, low: int, high: int, log: bool, step: int) -> int:
        self.sizes[name] = min(VALUES, (high - low) // step + 1)
        return self.rest.integer(name, low, high, log, step)


@dataclass
class _Changed:
    """Draws a recipe again with another value of one hole; holes that only this value has are at their middles."""

    params: Mapping[str, Any]
    name: str
    share: float
    value: Any = None

    def choice(self, name: str, labels: tuple[str, ...]) -> int:
        place: int = self._draw(name, self.params.get(name) in labels).choice(name, labels)
        self._note(name, labels[place])
        return place

    def uniform(self, name: str, low: float, high: float, log: bool, step: float | None) -> float:
        value: float = self._draw(name, name in self.params).uniform(name, low, high, log, step)
        self._note(name, value)
        return value

    def integer(self, name: str, low: int, high: int, log: bool, step: int) -> int:
        value: int = self._draw(name, name in self.params).integer(name, low, high, log, step)
        self._note(name, value)
        return value

    def _draw(self, name: str, known: bool) -> Any:
        if name == self.name:
            return SharesDraw(lambda _: self.share)
        return PinnedDraw(self.params) if known else SharesDraw(lambda _: 0.5)

    def _note(self, name: str, value: Any) -> None:
        if name == self.name:
            self.value = value


# --- over paid steps --------------------------------------------------------------------------------------------------


def _course(
    search: SearchRecords, goals: Goals, metric: str, outlook: Outlook, beliefs: _Beliefs
) -> list[dict[str, Any]]:
    # Low-fidelity trials are paid, and are never the best.
    ended = [trial for trial in (*search.numbered(), *search.low_fidelity()) if trial.ended is not None]
    ended.sort(key=lambda trial: (trial.ended.time if trial.ended else 0.0, trial.id))
    paid = numpy.cumsum([_paid(trial) for trial in ended]).tolist()
    prior, experience = with_prior(search.definition["space"]["search"]["sampler"]), stored_experience(search.folder)
    figures = expected_figures(search.numbered(), goals, prior, outlook.reader, experience)
    places = sorted({round(place) for place in numpy.linspace(0, len(ended) - 1, min(PLACES, len(ended)))})
    told: list[dict[str, Any]] = []
    for place in places:
        best, met = best_expected(ended[: place + 1], figures, goals, search.dense or None)
        known: Expected | None = None if best is None else figures.get(best.id, {}).get(metric)
        if known is not None:
            count = sum(not trial.control for trial in ended[: place + 1])
            told.append({"steps": int(paid[place]), **known.as_data(), "constraints_met": met, "trials": count})
    chance = by_chance([one.candidate for one in outlook.drawn], beliefs, [one["steps"] for one in told], search)
    return [{**one, "chance": value} for one, value in zip(told, chance, strict=True)]


def _paid(trial: TrialRecords) -> int:
    """Steps that were trained for a trial: what is stored is free."""
    return 0 if trial.ended is None or trial.duplicate_of is not None else int(trial.ended.data["steps_trained"])


def by_chance(
    recipes: Sequence[Candidate], beliefs: _Beliefs, budgets: Sequence[int], search: SearchRecords
) -> list[float | None]:
    """The expected figure that recipes drawn by chance reach, at each budget of paid steps.

    Searches by chance are simulated: recipes in a random order, each at the price of the segments that are still to be
    trained in a tree of its own; the best by its mean. Nothing is lost by mistaking a lucky one for it.

    Args:
        recipes: the first rows of what is believed.
        beliefs: of them.
        budgets: in steps, rising.
        search: whose seed draws.
    """
    rows = numpy.arange(len(recipes))
    mean, met = beliefs.first.moments(rows)[0], beliefs.met(rows)
    if not met.any():
        return [None] * len(budgets)
    # Before anything has ended, what a recipe at random is worth.
    typical = float(mean[met].mean())
    reached = numpy.zeros((SIMULATED, len(budgets)))
    for number in range(SIMULATED):
        order = random.Random(derive(search.definition["space"]["search"]["seed"], "chance", number))
        best: float | None = None
        paid, place, done = 0.0, 0, dict[str, int]()
        for row in order.choices(range(len(recipes)), k=4 * len(recipes)):
            paid += marginal_steps(recipes[row].segments, done, {})
            while place < len(budgets) and budgets[place] < paid:
                reached[number, place] = typical if best is None else best
                place += 1
            if place == len(budgets):
                break
            for address, needed in recipes[row].segments:
                done[address] = max(needed, done.get(address, 0))
            if met[row]:
                best = float(mean[row]) if best is None else max(best, float(mean[row]))
        reached[number, place:] = typical if best is None else best
    return [beliefs.first.target.figure(float(value)) for value in reached.mean(0)]


# --- how holes matter -------------------------------------------------------------------------------------------------


def _effects(changed: Sequence[tuple[str, Any]], modelled: Modelled, first: int) -> list[dict[str, Any]]:
    """Partial dependence (Friedman 2001, eq. 53) on each hole, the largest range first."""
    rows: dict[str, dict[Any, list[int]]] = {}
    for place, (name, x) in enumerate(changed):
        rows.setdefault(name, {}).setdefault(x, []).append(first + place)
    found = []
    for name, by_value in rows.items():
        if len(by_value) < 2 or modelled.belief is None:
            continue
        points = [_point(x, modelled, numpy.array(there)) for x, there in by_value.items()]
        if all(isinstance(point["x"], int | float) for point in points):
            points.sort(key=lambda point: float(point["x"]))
        values = [point["value"] for point in points]
        found.append({"hole": name, "range": max(values) - min(values), "points": points})
    return sorted(found, key=lambda one: -one["range"])


def _point(x: Any, modelled: Modelled, rows: Rows) -> dict[str, Any]:
    belief = modelled.belief
    assert belief is not None
    # Of one member the recipes' deviations are taken for one and the same: the interval is rather too wide.
    mean: Array = belief.mean[:, rows].mean(1)
    deviation: Array = belief.deviation[:, rows].mean(1)
    centre = float(belief.weights @ mean)
    spread = float(numpy.sqrt(belief.weights @ (deviation**2 + (mean - centre) ** 2)))
    ends = [modelled.target.figure(centre + side * WIDTH * spread) for side in (-1, 1)]
    return {"x": x, "value": modelled.target.figure(centre), "low": min(ends), "high": max(ends)}
