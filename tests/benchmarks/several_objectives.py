"""What a search over several objectives finds for the steps that it pays: the volume that its front dominates.

    python tests/benchmarks/several_objectives.py | tee tests/benchmarks/records/several_objectives.log

Problems are retrainings of one dense network, on the simulator's closed form: accuracy against the steps of a recipe,
and both against sparsity. Its formula is the prior of `guided`, which is left out for that reason. With them, accuracy
against steps of the letters that were trained for these benchmarks (`quality.trained_letters`). The volume is that
of the expected figures of all recipes that were run to their end, over that of the front of the whole space; each
objective counts from the worst recipe of the space (0) to the best one (1). The unit of a budget is the mean length
of a recipe from nothing. `random + asha-promote` stops trials by non-dominated fronts (Schmucker et al. 2021,
arXiv:2106.12639, MO-ASHA). `weighed` is `guided` with the gains that it had before: weights that change with every
proposal (Knowles 2006, ParEGO).
"""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from unittest import mock

import numpy
import optuna
from quality.course import Line, paid, searched
from quality.problems import Problem
from quality.trained_letters import trained_letters

from prune_search.recipe import strict_yaml
from prune_search.recipe.recipe import Recipe
from prune_search.search.guided import gains
from prune_search.search.guided.experience import Experience
from prune_search.search.guided.hypervolume import dominated_boxes, front_of
from prune_search.simulation.chain import chain_of
from prune_search.simulation.optimum import truth_of
from prune_search.simulation.surface import Simulation

BUDGETS = (1.5, 2.0, 4.0, 8.0)
SPACE = """\
task: {data: digits, model: mlp, seed: 0}
train: {steps: 60ep, batch: 64, optimizer: {name: sgd, lr: 0.1}, schedule: {name: step, at: [50%, 75%], factor: 0.1}}
mask: {at: end, criterion: magnitude, sparsity: 0.95}
weights: {at: {hole: choice, of: [0it, 5ep, 50%, end]}}
retrain:
  steps: {hole: choice, of: [6ep, 15ep, 30ep, 60ep]}
  clock: {hole: choice, of: [0it, 5ep, 50%, 75%]}
search: {concurrency: 1, controls: false, objectives: []}
"""
SPARSITIES = {"hole": "choice", "of": [0.8, 0.9, 0.95, 0.98]}
OBJECTIVES: Mapping[str, list[str]] = {
    "accuracy and steps": ["maximize val/accuracy", "minimize steps_trained"],
    "accuracy, steps and sparsity": ["maximize val/accuracy", "minimize steps_trained", "maximize sparsity"],
}
GUIDED = {"name": "guided", "prior": False}
LINES = (
    Line("random", "random"),
    Line("random + asha-promote", "random", "asha-promote"),
    Line("nsga2", "nsga2"),
    Line("tpe", "tpe"),
    Line("guided, no prior, weighed", GUIDED),
    Line("guided, no prior", GUIDED),
    Line("guided", "guided"),
)

Figures = dict[str, tuple[float, ...]]


def problem_of(name: str) -> Problem:
    """The space of some objectives; with sparsity as one of them that is searched too."""
    raw, simulation = strict_yaml.load(SPACE), Simulation.of("closed-form")
    raw["search"]["objectives"] = OBJECTIVES[name]
    if len(OBJECTIVES[name]) > 2:
        raw["mask"]["sparsity"] = SPARSITIES
    return Problem(name, raw, raw, lambda seed: simulation, "10%", own=True)


def letters() -> list[Problem]:
    """Accuracy and steps of measured networks."""
    found = []
    for one in trained_letters():
        raw = {**one.raw, "search": {**one.raw["search"], "objectives": OBJECTIVES["accuracy and steps"]}}
        found.append(replace(one, name=f"{one.name}, accuracy and steps", raw=raw, flat=raw))
    return found


def figures_of(recipe: Recipe, problem: Problem) -> tuple[float, ...]:
    """The expected figures of a recipe, larger is better."""
    chain = chain_of(recipe)
    found = (truth_of(recipe, problem.simulation(0)), -float(chain.needed), chain.rounds[-1].asked)
    return found[: len(problem.raw["search"]["objectives"])]


def volumes(
    problem: Problem, line: Line, seed: int, whole: numpy.ndarray[tuple[int, int], numpy.dtype[numpy.float64]]
) -> list[float]:
    """The share of the whole front's volume at each budget."""
    low, high = whole.min(0), whole.max(0)
    best = _volume((whole - low) / (high - low))
    at: dict[float, Sequence[tuple[float, ...]]] = dict.fromkeys(BUDGETS, ())
    before = mock.patch.object(gains, "MOST_OBJECTIVES", 0) if "weighed" in line.name else contextlib.nullcontext()
    known: Figures = {}
    with before:
        for ended in searched(problem, line, seed, BUDGETS[-1] * problem.unit, Experience()):
            units = sum(map(paid, ended)) / problem.unit
            done = [trial for trial in ended if trial.status == "completed"]
            for trial in done:
                if trial.id not in known:
                    known[trial.id] = figures_of(Recipe.from_canonical(trial.recipe), problem)
            for budget in BUDGETS:
                if units <= budget * (1 + 1e-9):
                    at[budget] = [known[trial.id] for trial in done]
    return [_volume((numpy.array(at[one]) - low) / (high - low)) / best if at[one] else 0.0 for one in BUDGETS]


def _volume(points: numpy.ndarray[tuple[int, int], numpy.dtype[numpy.float64]]) -> float:
    lower, upper = dominated_boxes(front_of(points), numpy.full(points.shape[1], -1e-9))
    return float((upper - lower).prod(1).sum())


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5)
    options = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    print(f"{options.seeds} seeds; budgets in units: {', '.join(f'{budget:g}' for budget in BUDGETS)}")
    for problem in [*map(problem_of, OBJECTIVES), *letters()]:
        whole = numpy.array([figures_of(recipe, problem) for recipe in problem.recipes])
        print(f"{problem.name}: {len(whole)} recipes, a unit is {problem.unit:,.0f} steps", flush=True)
        for line in (one for one in LINES if one.sampler != "guided" or not problem.own):
            rows = numpy.array([volumes(problem, line, seed, whole) for seed in range(options.seeds)])
            error = rows.std(0, ddof=1) / len(rows) ** 0.5
            shown = "".join(f"{mean:9.3f} ± {one:5.3f}" for mean, one in zip(rows.mean(0), error, strict=True))
            print(f"  {line.name:28}{shown}", flush=True)


if __name__ == "__main__":
    main()
