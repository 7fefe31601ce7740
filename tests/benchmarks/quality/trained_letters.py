"""Recipes on UCI Letter Recognition that were trained at two sparsities: figures, and two problems made of them.

    PYTHONPATH=tests/benchmarks python -m quality.trained_letters DATA tests/benchmarks/records/trained_letters.json

measures the file anew: 348 recipes at 90 % and at 97 % sparsity, with three seeds each. DATA is a folder that holds
``letter/letter-recognition.data`` (Slate, 1991; CC BY 4.0): the first 16,000 rows are trained on, the last 4,000 test.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy

import prune_search
from prune_search.recipe import strict_yaml
from prune_search.recipe.clock import Timeline, resolve
from prune_search.recipe.recipe import Recipe
from prune_search.recipe.space import known_epoch, read_space
from prune_search.search.suggest import walk
from prune_search.simulation.surface import Simulation, SurfacePoint
from quality.problems import Problem, Trained
from quality.trained_pairs import RETRAININGS, retraining_of

FIGURES = Path(__file__).parents[1] / "records" / "trained_letters.json"
SEEDS = 3
SPARSITIES = (0.9, 0.97)
TRAINED = 16_000
# Accuracies of a chain that was trained with several seeds: each has those on validation data after each round, and the
# one on test data after the last.
Chain = Sequence[tuple[Sequence[float], float]]
SPACE = """\
task: {data: digits, model: {name: mlp, hidden: [128, 64]}, seed: 0}
train:
  steps: 1200it
  batch: 128
  optimizer: {name: sgd, lr: {hole: choice, of: [0.01, 0.03, 0.1]}, momentum: 0.9}
  schedule: {name: step, at: [50%, 75%], factor: 0.1}
mask: {at: end, criterion: magnitude, sparsity: SPARSITY, scope: {hole: choice, of: [global, uniform]}}
rounds: {hole: choice, of: [1, 3]}
RETRAININGS
search: {concurrency: 1, controls: false, objectives: [maximize val/accuracy]}
"""


def place_of(recipe: Recipe, line: Timeline) -> str:
    """What tells the recipes of the space apart."""
    taken = f"{recipe.optimizer.options['lr']} {retraining_of(recipe, line)}"
    return f"{recipe.mask.sparsity.final} {taken} {recipe.rounds} {recipe.mask.scope.name}"


def space_of(sparsity: float) -> Any:
    """The space at one sparsity, as read from YAML."""
    return strict_yaml.load(SPACE.replace("SPARSITY", str(sparsity)).replace("RETRAININGS", RETRAININGS))


def trained_letters() -> list[Problem]:
    """The problems of the figures that are kept: one for each sparsity."""
    cells: Mapping[str, Chain] = json.loads(FIGURES.read_text(encoding="utf-8"))

    def measured(point: SurfacePoint) -> tuple[str, list[tuple[float, float]]]:
        """Rounds before the last were measured on validation data only."""
        place, last = place_of(point.recipe, point.timeline), point.number == point.recipe.rounds
        pairs = [(rounds[point.number - 1], test) for rounds, test in cells[place]]
        return place, [(validation, test if last else validation) for validation, test in pairs]

    def simulation(seed: int) -> Simulation:
        return Simulation("closed-form", Trained(measured, seed))

    raws = [(f"letters measured, sparsity {100 * sparsity:g} %", space_of(sparsity)) for sparsity in SPARSITIES]
    return [Problem(name, raw, raw, simulation, "10%") for name, raw in raws]


def read_letters(root: str | Path) -> dict[str, tuple[Any, Any]]:
    """The data set: 16 features of each letter, divided by 15, and which of the 26 it is."""
    rows = Path(root, "letter", "letter-recognition.data").read_text(encoding="utf-8").split()
    words = [row.split(",") for row in rows]
    features = numpy.array([[int(word) for word in row[1:]] for row in words], numpy.float32) / 15
    labels = numpy.array([ord(row[0]) - ord("A") for row in words])
    return {"train": (features[:TRAINED], labels[:TRAINED]), "test": (features[TRAINED:], labels[TRAINED:])}


def measured(root: str) -> dict[str, list[tuple[list[float], float]]]:
    """Train every recipe at both sparsities."""
    spaces = [read_space(space_of(sparsity), "trained letters") for sparsity in SPARSITIES]
    recipes = [drawn.recipe() for space in spaces for drawn, _ in walk(2, space.fill)]
    found: dict[str, list[tuple[list[float], float]]] = {}
    for seed in range(SEEDS):
        # Nothing is shared between seeds, nor needed after them.
        with tempfile.TemporaryDirectory() as storage:
            where = prune_search.Where(storage=storage, data=lambda: read_letters(root))
            for number, recipe in enumerate(recipes, 1):
                blocks: dict[str, Any] = dict(recipe.blocks)
                blocks["task"] = {**blocks["task"], "seed": seed}
                result = prune_search.run(blocks, where=where)
                rounds = [round(one.metrics["val/accuracy"], 5) for one in result.rounds]
                chain = (rounds, round(result.metrics["test/accuracy"], 5))
                found.setdefault(place_of(recipe, resolve(recipe, known_epoch(recipe) or 1)), []).append(chain)
                print(f"\rseed {seed}: {number} of {len(recipes)}", end="", file=sys.stderr, flush=True)
    return found


if __name__ == "__main__":
    lines = [f"{json.dumps(place)}: {json.dumps(chains)}" for place, chains in measured(sys.argv[1]).items()]
    Path(sys.argv[2]).write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")
