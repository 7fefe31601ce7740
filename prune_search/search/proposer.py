"""Proposals as a pure function of the records: the same records give the same proposal in any process.

The Optuna study is built anew for every proposal and lives in memory only: no state of a sampler is ever stored. What
is kept between proposals is computed from immutable records, and only used again for the same records.
"""

from __future__ import annotations

import contextlib
import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import optuna
from optuna.samplers import BaseSampler, CmaEsSampler, GPSampler, RandomSampler
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState, create_trial

from prune_search.ledger.ranking import Dense, Goals
from prune_search.ledger.records import PAUSED, TrialRecords
from prune_search.recipe import axes
from prune_search.recipe.begin import Beginning, beginnings
from prune_search.recipe.clock import resolve
from prune_search.recipe.problems import Problem, UserError
from prune_search.recipe.recipe import Named, Recipe, digest_of
from prune_search.recipe.space import Drawn, Space
from prune_search.recipe.space_samples import Corner, space_samples
from prune_search.search.guided.experience import Experience
from prune_search.search.guided.guide import Guide
from prune_search.search.guided.low_fidelity import Cheaper
from prune_search.search.guided.sampler import GuidedSampler
from prune_search.search.optuna_study import Generations, OneStudy, placed
from prune_search.search.suggest import GivenDraw, Grid, GridDraw, TrialDraw, distribution_from, remembered, walk
from prune_search.training.randomness import derive

MAX_DRAWS = 1000
# A sampler learns nothing from an invalid draw and may return to that region forever: then draw at random.
DRAWS_OF_SAMPLER = 10
# Optuna's random numbers take the lower 32 bits of a seed.
SEEDS = 2**32
MAX_INVALID_OF_GRID = 10_000
# What these samplers of Optuna model is what every trial has: a hole that only some have is drawn at random.
SHARED_HOLES_ONLY: tuple[type[BaseSampler], ...] = (GPSampler, CmaEsSampler)
MAX_OBJECTIVES_OF_GP = 4
MAX_NAMES = 3


@dataclass(frozen=True)
class Proposal:
    """What is to be tried next.

    Attributes:
        number: the trial's, from 1.
        raw: the blocks, holes filled.
        recipe: the same, read.
        option: the label of the option of ``any``; empty without ``any``.
        params: what was drawn, by dotted path.
        sampler: what a later proposal needs to know of this one (plain JSON data): params and distributions by the
            sampler's names, and the sampler's own attributes.
        begun: the name of the recipe of ``search.begin`` that it is; empty where the sampler chose.
        cheaper: the form of the recipe that is run in its place; None: the recipe itself.
    """

    number: int
    raw: Mapping[str, Any]
    recipe: Recipe
    option: str
    params: Mapping[str, Any]
    sampler: dict[str, Any]
    begun: str = ""
    cheaper: Cheaper | None = None


class Proposer:
    """Proposes the trials of a search.

    Args:
        space: what is searched; its search block names the sampler, its seed, objectives and constraints.
        epoch_of: iterations in an epoch of a recipe, or None where they are not known.
        examples: training examples, of a data set whose size is not known before it is read.
        experience: what earlier searches showed, which the sampler `guided` begins with.
    """

    def __init__(
        self,
        space: Space,
        epoch_of: Callable[[Recipe], int | None],
        examples: int = 0,
        experience: Experience | None = None,
    ) -> None:
        self.space = space
        self.experience = experience or Experience()
        self.goals = Goals.of(space.search)
        self.begin = beginnings(space.search)
        self._epoch_of = epoch_of
        self._examples = examples
        # What follows is computed from the space or from immutable records, so that it can be kept between calls.
        self._settled: tuple[list[TrialRecords], list[FrozenTrial], Mapping[str, Any]] = ([], [], {})
        self._generations = Generations()
        self._grid: list[Proposal] = []
        self._rest: Iterator[Proposal] | None = None
        self._guide: Guide | None = None

    def propose(
        self, number: int, known: Sequence[TrialRecords], dense: Dense, low: Sequence[TrialRecords] = ()
    ) -> Proposal | None:
        """Proposal `number`: a function of the space, the number, and what is known.

        Args:
            number: of the trial, from 1.
            known: the trials proposed so far, in any order; controls are left out. One that has not ended counts as
                running.
            dense: metrics of the dense network; None while they are not known, and then no constraint counts.
            low: the low-fidelity trials proposed so far.

        Returns:
            The proposal; None where a grid has no further point, or every recipe of a guided search was proposed.

        Raises:
            UserError: a thousand draws in a row were invalid.
        """
        sampler = make_sampler(self.space, self._seed(number))
        if isinstance(sampler, Grid):
            return self._on_grid(sampler, number)
        first = self.begin[number - 1] if number <= len(self.begin) else None
        cheaper: Cheaper | None = None
        if isinstance(sampler, GuidedSampler):
            if self._guide is None:
                self._guide = Guide(self.space, self._epoch_of, self._examples, sampler.prior, self.experience)
            found = self._guide.choose(number, known, dense, {} if first is None else first.values, low)
            if found is None:
                return None
            cheaper = found if isinstance(found, Cheaper) else None
            sampler.chosen = found.candidate.drawn if isinstance(found, Cheaper) else found.drawn
            # It only draws what was chosen.
            known = []
        study = self._study(sampler, known, dense)
        system: dict[str, Any] = {}
        wrong = UserError(())
        for draw in range(MAX_DRAWS):
            if draw == DRAWS_OF_SAMPLER:
                study.sampler = RandomSampler(seed=self._seed(number, "uniform"))
            if first is not None and not isinstance(sampler, GuidedSampler):
                study.enqueue_trial(self._given(first))
            trial = study.ask()
            drawn = self.space.fill(TrialDraw(trial), examples=self._examples)
            system |= _attributes(study, trial)
            try:
                recipe = self._read(drawn)
            except UserError as error:
                wrong = error
                study.tell(trial, state=TrialState.FAIL)
                continue
            kept = remembered(trial.params, trial.distributions, system)
            name = "" if first is None else first.name
            return Proposal(number, drawn.raw, recipe, drawn.option, drawn.params, kept, name, cheaper)
        raise UserError([_never(MAX_DRAWS, wrong)])

    def _given(self, first: Beginning) -> dict[str, Any]:
        """What a recipe that is tried first says, as Optuna knows it."""
        draw = GivenDraw(first.values, Corner({}))
        self.space.fill(draw, examples=self._examples)
        return draw.params

    def _seed(self, number: int, *words: str) -> int:
        return derive(self.space.search["seed"], "propose", number, *words) % SEEDS

    def _read(self, drawn: Drawn) -> Recipe:
        recipe = drawn.recipe()
        epoch = self._epoch_of(recipe)
        if epoch is not None:
            resolve(recipe, epoch)
        return recipe

    # --- the study --------------------------------------------------------------------------------------------------

    def _study(self, sampler: BaseSampler, known: Sequence[TrialRecords], dense: Dense) -> optuna.Study:
        with no_news():
            directions = [StudyDirection[direction.upper()] for direction in self.goals.directions]
            storage = OneStudy(self._told(known, dense))
            study = optuna.create_study(storage=storage, directions=directions, sampler=sampler)
        self._generations.settle(sampler, study, storage)
        return study

    def _told(self, known: Sequence[TrialRecords], dense: Dense) -> list[FrozenTrial]:
        """The trials as Optuna knows them, each computed once for the same records.

        Those that have ended will not change. As long as the first trials are the same ones, so are the first of what
        is told, which spares a look at each of them for every proposal.
        """
        reference = dict(dense or {}) if self.goals.needs_dense else {}
        first, frozen, before = self._settled
        if before != reference or list(known[: len(first)]) != first:
            first, frozen = [], []
        # Controls are drawn by no sampler.
        rest = [t for t in known[len(first) :] if t.proposed and t.proposed.data["sampler"] is not None]
        rest.sort(key=_number)
        if first and rest and _number(rest[0]) < _number(first[-1]):
            return self._told_anew(known, dense, reference)
        found = list(frozen)
        for trial in rest:
            found.append(placed(self._frozen(trial, reference, dense), len(found)))
        ended = [t.ended is not None for t in known[len(first) :]]
        more = ended.index(False) if False in ended else len(ended)
        # Kept only where the trials came in the order in which they are told.
        if more and rest[:more] == list(known[len(first) : len(first) + more]):
            self._settled = ([*first, *rest[:more]], found[: len(first) + more], reference)
        return found

    def _told_anew(
        self, known: Sequence[TrialRecords], dense: Dense, reference: Mapping[str, Any]
    ) -> list[FrozenTrial]:
        self._settled = ([], [], reference)
        return self._told(sorted(known, key=_number), dense)

    def _frozen(self, trial: TrialRecords, reference: Mapping[str, Any], dense: Dense) -> FrozenTrial:
        """The trial as Optuna knows it; computed once for the same records."""
        kept = trial.computed.get("frozen")
        if kept is not None and kept[0] is self and kept[1] is trial.ended and kept[2] == reference:
            same: FrozenTrial = kept[3]
            return same
        frozen = frozen_trial(trial, self.goals, dense)
        trial.computed["frozen"] = (self, trial.ended, reference, frozen)
        return frozen

    # --- the grid ---------------------------------------------------------------------------------------------------

    def _on_grid(self, grid: Grid, number: int) -> Proposal | None:
        if self._rest is None:
            self._rest = self._grid_points(grid)
        try:
            self._grid += itertools.islice(self._rest, max(0, number - len(self._grid)))
        except UserError:
            # The walk ends with its error; asked again, it must say the same.
            self._grid, self._rest = [], None
            raise
        return self._grid[number - 1] if number <= len(self._grid) else None

    def _grid_points(self, grid: Grid) -> Iterator[Proposal]:
        """The recipes that are tried first, then every other valid recipe of the grid once."""
        seen: set[str] = set()
        count = invalid = 0
        for first in self.begin:
            count += 1
            proposal = self._first_of(first, grid, count)
            seen.add(digest_of(proposal.recipe.canonical))
            yield proposal
        for drawn, draw in walk(grid.points, lambda draw: self.space.fill(draw, examples=self._examples)):
            try:
                recipe = self._read(drawn)
            except UserError as error:
                invalid += 1
                if invalid >= MAX_INVALID_OF_GRID:
                    raise UserError([_never(invalid, error)]) from None
                continue
            invalid = 0
            digest = digest_of(recipe.canonical)
            if digest not in seen:
                seen.add(digest)
                count += 1
                kept = remembered(draw.params, draw.distributions, {})
                yield Proposal(count, drawn.raw, recipe, drawn.option, drawn.params, kept)

    def _first_of(self, first: Beginning, grid: Grid, number: int) -> Proposal:
        """A recipe that is tried first, what it does not say as the first point of the grid that is valid has it."""

        def fill(draw: GridDraw) -> tuple[Drawn, GivenDraw]:
            given = GivenDraw(first.values, draw)
            return self.space.fill(given, examples=self._examples), given

        wrong = UserError(())
        for (drawn, given), draw in itertools.islice(walk(grid.points, fill), MAX_INVALID_OF_GRID):
            try:
                recipe = self._read(drawn)
            except UserError as error:
                wrong = error
                continue
            params, distributions = draw.params | given.params, draw.distributions | given.distributions
            kept = remembered(params, distributions, {})
            return Proposal(number, drawn.raw, recipe, drawn.option, drawn.params, kept, first.name)
        raise UserError([_never(MAX_INVALID_OF_GRID, wrong)])


def _attributes(study: optuna.Study, trial: optuna.Trial) -> dict[str, Any]:
    """What the sampler noted of a trial, but for what it tells other processes while the trial is drawn."""
    noted = study.get_trials(deepcopy=False)[trial.number].system_attrs
    return {name: value for name, value in noted.items() if ":relative_params:" not in name and name != "fixed_params"}


def _number(trial: TrialRecords) -> int:
    return 0 if trial.proposed is None else int(trial.proposed.data["number"])


def _never(draws: int, error: UserError) -> Problem:
    reason = "; ".join(": ".join(filter(None, (p.path, p.message))) for p in error.problems[:2])
    return Problem("", f"{draws} draws in a row fell in an invalid region of the space. The last one: {reason}")


def make_sampler(space: Space, seed: int) -> BaseSampler | Grid:
    """The sampler of a space: one of Optuna's, or a `Grid`. The seed is in 0 … 2**32 - 1."""
    named = Named.of(axes.SAMPLERS, space.search["sampler"])
    sampler = named.entry(axes.SAMPLERS).make(seed, **named.options)
    if not isinstance(sampler, BaseSampler | Grid):
        text = f"{named.name!r} returned a {type(sampler).__name__} where an Optuna sampler is needed"
        raise UserError([Problem("search.sampler", text)])
    return sampler


def frozen_trial(trial: TrialRecords, goals: Goals, dense: Dense) -> FrozenTrial:
    """A trial as Optuna's samplers see it.

    One that has not ended is RUNNING (a sampler keeps away from it), a completed one COMPLETE with its values, a
    stopped or paused one PRUNED: with one objective it has its last value at the number of measurements that it
    survived, with several none, which Optuna does not read there. A failed one, or one without a finite figure for each
    objective and constraint, is FAIL. Violated constraints are above 0.

    Args:
        trial: proposed by a sampler.
        goals: objectives and constraints.
        dense: metrics of the dense network, or None: then nothing is said of constraints.
    """
    kept = {} if trial.proposed is None else trial.proposed.data["sampler"]
    drawn: dict[str, Any] = {
        "params": dict(kept["params"]),
        "distributions": {name: distribution_from(written) for name, written in kept["distributions"].items()},
        "system_attrs": dict(kept["system"]),
    }
    if trial.ended is None:
        return create_trial(state=TrialState.RUNNING, **drawn)
    status = trial.ended.data["status"]
    metrics = trial.metrics if trial.result or not trial.measured else trial.measured[-1].figures
    values = goals.values(metrics)
    violations = goals.violations(metrics, dense) or []
    constraints = {str(place): violation for place, violation in enumerate(violations)}
    judged = all(math.isfinite(violation) for violation in violations)
    if status == "completed" and values is not None and judged:
        return create_trial(state=TrialState.COMPLETE, values=values, constraints=constraints, **drawn)
    if status in ("stopped", PAUSED):
        reached = {len(trial.measured): values[0]} if values is not None and len(values) == 1 else {}
        known = constraints if judged else {}
        return create_trial(state=TrialState.PRUNED, intermediate_values=reached, constraints=known, **drawn)
    return create_trial(state=TrialState.FAIL, **drawn)


@contextlib.contextmanager
def no_news() -> Iterator[None]:
    """Without Optuna's message that a study was created: there is one for each proposal."""
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(max(before, optuna.logging.WARNING))
    try:
        yield
    finally:
        optuna.logging.set_verbosity(before)


# --- what a sampler cannot do -----------------------------------------------------------------------------------------


def check_sampler(space: Space) -> list[Problem]:
    """What is wrong with the sampler of a space, for `launch` to refuse: nothing for most."""
    sampler = make_sampler(space, 0)
    if not isinstance(sampler, SHARED_HOLES_ONLY):
        return []
    path, name = "search.sampler", Named.of(axes.SAMPLERS, space.search["sampler"]).name
    problems = []
    if partial := _partial_holes(space):
        names = ", ".join(partial[:MAX_NAMES]) + (", …" if len(partial) > MAX_NAMES else "")
        text = (
            f"{name} learns only from holes that every trial has with the same range, and would draw {names} at random"
        )
        problems.append(Problem(path, f"{text}: use tpe"))
    several = len(space.search["objectives"])
    if isinstance(sampler, GPSampler) and several > MAX_OBJECTIVES_OF_GP:
        text = f"{name} takes at most {MAX_OBJECTIVES_OF_GP} objectives (got {several}): use tpe or nsga2"
        problems.append(Problem(path, text))
    return problems


@dataclass(frozen=True)
class _Ranges:
    """Draws what a corner draws, and remembers the range of every hole that it fills."""

    corner: Corner
    found: dict[str, Any]

    def choice(self, name: str, labels: tuple[str, ...]) -> int:
        self.found[name] = labels
        return self.corner.choice(name, labels)

    def uniform(self, name: str, low: float, high: float, log: bool, step: float | None) -> float:
        self.found[name] = (low, high)
        return self.corner.uniform(name, low, high, log, step)

    def integer(self, name: str, low: int, high: int, log: bool, step: int) -> int:
        self.found[name] = (low, high)
        return self.corner.integer(name, low, high, log, step)


def _partial_holes(space: Space) -> list[str]:
    """Names of the holes that only some points of a space have, or whose range is not the same at all of them."""

    def ranges(corner: Corner) -> dict[str, Any]:
        draw = _Ranges(corner, {})
        space.fill(draw)
        return draw.found

    points = list(space_samples(ranges))
    names = dict.fromkeys(name for found in points for name in found)
    return [name for name in names if len({found.get(name) for found in points}) > 1]
