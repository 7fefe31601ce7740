"""One search: what it paid, and how good the recipe is that it would recommend, at each budget."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from unittest import mock

import numpy
from simulated_trials import begin

from prune_search.ledger.account import account_of
from prune_search.ledger.ranking import Goals
from prune_search.ledger.records import SearchRecords, TrialRecords
from prune_search.recipe.recipe import Recipe
from prune_search.search import ledger_callbacks
from prune_search.search.guided.candidates import Candidate
from prune_search.search.guided.experience import Experience
from prune_search.search.guided.features import Frame, Network, network
from prune_search.search.guided.kernel import Nodes
from prune_search.search.guided.past import Past, Reader, Seen
from prune_search.search.guided.recommend import modelled_metrics, nominal, recommended, with_prior
from prune_search.simulation.chain import chain_of
from prune_search.simulation.optimum import truth_of
from prune_search.simulation.search import simulate_search
from prune_search.simulation.surface import Simulation
from quality.problems import Problem

MEMORY = "/dev/shm"
DEFAULTS: Mapping[str, Any] = {"constraints": []}


@dataclass(frozen=True)
class Line:
    """A way to search.

    Attributes:
        name: shown.
        sampler: as ``search.sampler`` has it.
        scheduler: ``none``, ``asha`` or ``asha-promote``.
        expected: whether it recommends the recipe of the best expected value; else the best measured one.
        upside_down: whether its prior says the opposite of what it says.
        experience: whether it begins with what the table says of other networks.
        everything: whether it searches nothing: every recipe of the space is measured once, whatever the budget.
    """

    name: str
    sampler: Any
    scheduler: str = "none"
    expected: bool = False
    upside_down: bool = False
    experience: bool = False
    everything: bool = False

    @property
    def samples(self) -> str:
        """The name of the sampler."""
        return str(self.sampler["name"] if isinstance(self.sampler, Mapping) else self.sampler)


LINES = (
    Line("random", "random"),
    Line("random, expected", "random", expected=True),
    Line("random + asha", "random", "asha"),
    Line("tpe", "tpe"),
    Line("nsga2", "nsga2"),
    Line("gp", "gp"),
    Line("guided, no prior", {"name": "guided", "prior": False}, expected=True),
    Line("guided", "guided", expected=True),
    Line("guided, upside down", "guided", expected=True, upside_down=True),
    Line("guided, other networks", "guided", expected=True, experience=True),
    Line("everything, best measured", "random", everything=True),
    Line("everything, best expected", "guided", expected=True, everything=True),
)


def paid(trial: TrialRecords) -> int:
    """Steps that were trained for a trial: what is stored is free."""
    return account_of(trial).trained


def searched(
    problem: Problem, line: Line, seed: int, steps: float, experience: Experience
) -> Iterator[list[TrialRecords]]:
    """Search until so many steps are paid; the trials that have ended or rest, whenever one more does."""
    # `guided` chooses from a whole space alike whatever the seed: only what is measured differs.
    own = 0 if problem.whole and line.samples == "guided" else seed
    space, simulation = problem.space(line.sampler, line.scheduler, own), problem.simulation(seed)
    ended: dict[str, TrialRecords] = {}
    after: list[list[TrialRecords]] = [[]]

    def listener(records: SearchRecords, trial: TrialRecords | None) -> None:
        if trial is not None:
            ended[trial.id] = trial
            after.append(list(ended.values()))

    where = MEMORY if Path(MEMORY).is_dir() else None
    with tempfile.TemporaryDirectory(dir=where) as storage, _quick(), _prior(line.upside_down):
        folder = begin(Path(storage), space, simulation)
        experience.store(folder)
        simulate_search(space, folder, simulation, lambda: sum(map(paid, ended.values())) >= steps, listener)
        yield from after


def regrets(
    problem: Problem, line: Line, seed: int, budgets: Sequence[float], experience: Experience | None = None
) -> list[float]:
    """Regret of one search in points at each budget, which is in units."""
    if line.everything:
        return [_left(problem, line, seed)] * len(budgets)
    with contextlib.ExitStack() as stack:
        if problem.whole and line.samples == "guided":
            stack.enter_context(problem.shared.kept())
        return _regrets(problem, line, seed, budgets, experience)


def _regrets(
    problem: Problem, line: Line, seed: int, budgets: Sequence[float], experience: Experience | None
) -> list[float]:
    known = experience if experience is not None and line.experience else Experience()
    goals, reader, simulation = (
        Goals.of({**DEFAULTS, **problem.raw["search"]}),
        Reader(nominal),
        problem.simulation(seed),
    )
    within: dict[float, list[TrialRecords]] = {}
    for ended in searched(problem, line, seed, budgets[-1] * problem.unit, known):
        units = sum(map(paid, ended)) / problem.unit
        within |= {budget: ended for budget in budgets if units <= budget * (1 + 1e-9)}
    # By how many trials have ended: often nothing more has between two budgets.
    found: dict[int, float] = {}
    for ended in within.values():
        if len(ended) not in found:
            answer = answer_of(ended, goals, line, reader, known)
            truth = problem.typical if answer is None else truth_of(Recipe.from_canonical(answer.recipe), simulation)
            found[len(ended)] = 100 * (problem.best - truth)
    return [found[len(within[budget])] for budget in budgets]


def _left(problem: Problem, line: Line, seed: int) -> float:
    """Regret in points where every recipe of the space has been measured once: no search of these is below it."""
    goals, simulation = Goals.of({**DEFAULTS, **problem.raw["search"]}), problem.simulation(seed)
    past = [_measured(recipe, number, simulation) for number, recipe in enumerate(problem.recipes, 1)]
    best = max(past, key=lambda one: float(one.seen[-1].figures[goals.objectives[0][1]]))
    if line.expected:
        (_, modelled, rows), *_ = modelled_metrics(past, goals, with_prior(line.sampler), Experience())
        best = past[int(numpy.argmax(modelled.moments(rows)[0]))]
    return 100 * (problem.best - truth_of(best.candidate.recipe, simulation))


def _measured(recipe: Recipe, number: int, simulation: Simulation) -> Past:
    """A recipe of which the last network was measured."""
    one, point = Candidate.of(recipe, nominal(recipe), "", {}, {}), chain_of(recipe).rounds[-1].point
    figures = {"val/accuracy": simulation.surface.outlook(point).accuracy}
    return Past(str(number), one, (Seen(network(one, recipe.rounds), figures, True),), False, True, number)


def answer_of(
    trials: Sequence[TrialRecords], goals: Goals, line: Line, reader: Reader, experience: Experience | None = None
) -> TrialRecords | None:
    """The trial whose recipe a search would recommend."""
    if not line.expected:
        return goals.best(trials, None)[0]
    with _prior(line.upside_down):
        return recommended(trials, goals, None, with_prior(line.sampler), reader, experience)[0]


@contextlib.contextmanager
def _quick() -> Iterator[None]:
    """Nothing here outlives the search, and nobody looks at the middle of a retraining but a stopping rule."""
    with mock.patch.object(os, "fsync", return_value=None), mock.patch.object(ledger_callbacks, "MAX_OBSERVATIONS", 1):
        yield


@contextlib.contextmanager
def _prior(upside_down: bool) -> Iterator[None]:
    """The prior of `guided`, mirrored at each depth: what it expects to be best it expects to be worst."""

    rows = Frame.rows

    def mirrored(frame: Frame, networks: Sequence[Network]) -> Nodes:
        nodes = rows(frame, networks)
        if nodes.prior is None:
            return nodes
        return replace(nodes, prior=nodes.prior - 2 * nodes.better, better=-nodes.better)

    if not upside_down:
        yield
        return
    with mock.patch.object(Frame, "rows", mirrored):
        yield
