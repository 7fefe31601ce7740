"""Whether stopping or pausing trials pays: regret against paid steps with and without a scheduler.

    python tests/benchmarks/pausing.py --minutes 6 | tee tests/benchmarks/records/pausing.log

Problems are retrainings of one dense network at two sparsities, on the simulator's closed form: it has learning
curves, so that a scheduler judges in the middle of retrainings, at 10, 30 and 90 % of each. Its formula is the prior of
`guided`, which is left out for that reason. With a table of measured networks (`--table FILE.csv`, see
`search_quality.py`) there are also chains of ten rounds, judged after rounds 1, 3 and 9, where `guided` has its prior.
Regret, budgets and units are those of `search_quality.py`. What was trained of a trial that is stopped or rests is
paid.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator, Sequence

import numpy
import optuna
from quality.course import Line, regrets
from quality.problems import NETWORKS, Problem, table

from prune_search.recipe import strict_yaml
from prune_search.simulation.surface import Simulation

PERCENT = (90, 98)
BUDGETS = (1.0, 2.0, 4.0, 8.0)
SCHEDULERS = ("none", "asha", "asha-promote")
RETRAININGS = """\
task: {data: digits, model: mlp, seed: 0}
train: {steps: 60ep, batch: 64, optimizer: {name: sgd, lr: 0.1}, schedule: {name: step, at: [50%, 75%], factor: 0.1}}
mask: {at: end, criterion: magnitude}
weights: {at: {hole: choice, of: [0it, 1ep, 5ep, 25%, 50%, 75%, end]}}
retrain:
  steps: {hole: choice, of: [15ep, 30ep, 60ep]}
  clock: {hole: choice, of: [0it, 1ep, 5ep, 25%, 50%, 75%]}
search: {concurrency: 1, controls: false, objectives: [maximize val/accuracy]}
"""


def retrainings(percent: int) -> Problem:
    """Ways of retraining what one dense training has made, whose steps are paid once."""
    raw, simulation = strict_yaml.load(RETRAININGS), Simulation.of("closed-form")
    raw["mask"]["sparsity"] = percent / 100
    return Problem(f"retrainings, sparsity {percent} %", raw, raw, lambda seed: simulation, "10%", own=True)


def lines_of(problem: Problem) -> list[Line]:
    """Each sampler with each scheduler."""
    guided = {"name": "guided", "prior": not problem.own}
    named = (("random", "random", False), ("guided" if not problem.own else "guided, no prior", guided, True))
    return [
        Line(f"{name} + {scheduler}", sampler, scheduler, expected)
        for name, sampler, expected in named
        for scheduler in SCHEDULERS
    ]


def measured(chosen: Sequence[Problem], seeds: int, minutes: float) -> dict[tuple[str, str], list[list[float]]]:
    """Regrets of every search, as long as there is time for another seed."""
    begun, found = time.process_time(), dict[tuple[str, str], list[list[float]]]()
    for seed in range(seeds):
        for problem in chosen:
            for line in lines_of(problem):
                found.setdefault((problem.name, line.name), []).append(regrets(problem, line, seed, BUDGETS))
        spent = (time.process_time() - begun) / 60
        if spent * (seed + 2) / (seed + 1) > minutes:
            break
    return found


def report(chosen: Sequence[Problem], found: dict[tuple[str, str], list[list[float]]]) -> Iterator[str]:
    """Mean regrets and their standard errors, and those over the same sampler's without a scheduler, seed by seed."""
    yield f"{len(next(iter(found.values())))} seeds; budgets in units: {', '.join(f'{budget:g}' for budget in BUDGETS)}"
    for problem in chosen:
        yield f"{problem.name}: best {100 * problem.best:.2f}, a unit is {problem.unit:,.0f} steps"
        for line in lines_of(problem):
            yield f"  {line.name:32}" + _means(numpy.array(found[problem.name, line.name]))
    yield "\nregret less that of the same sampler and seed without a scheduler, over all problems and seeds"
    names = dict.fromkeys(line.name for problem in chosen for line in lines_of(problem))
    for name in names:
        sampler, _, scheduler = name.rpartition(" + ")
        pairs = [(problem.name, name) for problem in chosen if (problem.name, name) in found]
        less = [numpy.array(found[pair]) - numpy.array(found[pair[0], f"{sampler} + none"]) for pair in pairs]
        if scheduler != "none":
            yield f"  {name:32}" + _means(numpy.concatenate(less))


def _means(rows: numpy.ndarray[tuple[int, int], numpy.dtype[numpy.float64]]) -> str:
    error = rows.std(0, ddof=1) / len(rows) ** 0.5 if len(rows) > 1 else 0 * rows[0]
    return "".join(f"{mean:9.2f} ± {one:4.2f}" for mean, one in zip(rows.mean(0), error, strict=True))


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--table", help="a table of measured networks (CSV)")
    parser.add_argument("--seeds", type=int, default=60)
    parser.add_argument("--minutes", type=float, default=6.0, help="of processor time: then no further seed")
    options = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    chosen = [retrainings(percent) for percent in PERCENT]
    if options.table:
        chosen += [table(options.table, network, "chains") for network in NETWORKS[:2]]
    print("\n".join(report(chosen, measured(chosen, options.seeds, options.minutes))))


if __name__ == "__main__":
    main()
