"""Recipes on digits that were trained at full length and at a quarter of it: figures, and a problem made of them.

    PYTHONPATH=tests/benchmarks python -m quality.trained_pairs tests/benchmarks/records/trained_pairs.json

measures the file anew: 116 recipes, at both lengths, with three seeds each (six minutes on a core that is shared).
"""

from __future__ import annotations

import json
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

import prune_search
from prune_search.ledger.fidelities import kendall
from prune_search.recipe import strict_yaml
from prune_search.recipe.blocks import Hold
from prune_search.recipe.clock import Timeline, resolve
from prune_search.recipe.fidelity import Fidelity
from prune_search.recipe.recipe import Recipe
from prune_search.recipe.space import known_epoch, read_space
from prune_search.search.suggest import walk
from prune_search.simulation.surface import Simulation, SurfacePoint
from quality.problems import Problem, Trained

SEEDS = 3
SHORTER = Fidelity(steps=0.25)
# Ways of retraining a dense network: from earlier weights, by the clock, or on at a rate that is held.
RETRAININGS = """\
any:
- weights: {at: {hole: choice, of: [0it, 10%, 25%, 50%, end]}}
  retrain: {until: end, clock: {hole: choice, of: [0it, 25%, 50%, 75%]}}
- weights: {at: end}
  retrain:
    steps: {hole: choice, of: [25%, 50%, 100%]}
    clock: {hold: {hole: choice, of: [final, 0.01, 0.1]}}
"""
SPACE = """\
task: {data: digits, model: {name: mlp, hidden: [64]}, seed: 0}
train:
  steps: 40ep
  batch: 64
  optimizer: {name: sgd, lr: {hole: choice, of: [0.01, 0.03, 0.1, 0.3]}, momentum: 0.9}
  schedule: {name: step, at: [50%, 75%], factor: 0.1}
mask: {at: end, criterion: magnitude, sparsity: 0.985}
RETRAININGS
search: {concurrency: 1, controls: false, objectives: [maximize val/accuracy]}
""".replace("RETRAININGS", RETRAININGS)


def retraining_of(recipe: Recipe, line: Timeline) -> str:
    """What tells the ways of retraining apart."""
    clock = None if recipe.retrain is None else recipe.retrain.clock
    held = f"hold {clock.rate}" if isinstance(clock, Hold) else line.clock
    return f"{line.k2} {held} {line.retrain_steps}"


def place_of(recipe: Recipe, line: Timeline) -> str:
    """What tells the recipes of the space, and their shorter forms, apart."""
    return f"{recipe.optimizer.options['lr']} {line.total} {retraining_of(recipe, line)}"


def trained_pairs(file: Path) -> Problem:
    """The problem of a file of figures."""
    cells = json.loads(file.read_text(encoding="utf-8"))
    raw = strict_yaml.load(SPACE)

    def measured(point: SurfacePoint) -> tuple[str, Any]:
        place = place_of(point.recipe, point.timeline)
        return place, cells[place]

    def simulation(seed: int) -> Simulation:
        return Simulation("closed-form", Trained(measured, seed))

    return Problem("digits trained at two lengths, sparsity 98.5 %", raw, raw, simulation, "10%")


def correlations(file: Path) -> tuple[float | None, float | None]:
    """Kendall's τ between the two lengths over all recipes: of one measurement each, and of means over the seeds."""
    cells = json.loads(file.read_text(encoding="utf-8"))
    pairs = []
    for recipe in trained_pairs(file).recipes:
        epoch = known_epoch(recipe) or 1
        short = SHORTER.of_recipe(recipe, epoch)
        assert short is not None
        pairs.append(tuple(cells[place_of(one, resolve(one, epoch))] for one in (short, recipe)))
    means = [tuple(statistics.fmean(validation for validation, _ in cell) for cell in pair) for pair in pairs]
    # Of other seeds, as if they were different draws of noise.
    once = [(short[0][0], full[1][0]) for short, full in pairs]
    return kendall(once), kendall([(short, full) for short, full in means])


def measured() -> dict[str, list[tuple[float, float]]]:
    """Train every recipe of the space at both lengths."""
    space = read_space(strict_yaml.load(SPACE), "trained pairs")
    found: dict[str, list[tuple[float, float]]] = {}
    full = [drawn.recipe() for drawn, _ in walk(2, space.fill)]
    with tempfile.TemporaryDirectory() as storage:
        for seed in range(SEEDS):
            for recipe in full:
                epoch = known_epoch(recipe) or 1
                for one in (recipe, SHORTER.of_recipe(recipe, epoch)):
                    assert one is not None
                    blocks: dict[str, Any] = dict(one.blocks)
                    blocks["task"] = {**blocks["task"], "seed": seed}
                    metrics = prune_search.run(blocks, where=prune_search.Where(storage=storage)).metrics
                    pair = (round(metrics["val/accuracy"], 5), round(metrics["test/accuracy"], 5))
                    found.setdefault(place_of(one, resolve(one, epoch)), []).append(pair)
    return found


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(json.dumps(measured(), indent=0) + "\n", encoding="utf-8")
