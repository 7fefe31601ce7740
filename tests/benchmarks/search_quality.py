"""Regret against budget of samplers, with and without asha, over many seeds: on the simulator and on measured networks.

    python tests/benchmarks/search_quality.py --table FILE.csv | tee tests/benchmarks/records/search_quality.log

A search runs one trial at a time. Of the trials that completed within a budget it chooses the one with the highest
measured validation accuracy; regret is how far the expected accuracy of that recipe (closed form: without noise; table:
mean test accuracy over the seeds) lies below the best of the space, in points. The unit of budget is the mean length of
a trial of the space that runs to its end; what a trial trained before it was stopped counts in steps, and nothing is
shared between trials. Mean over the seeds ± its standard error.

The space on the table: four ways of retraining, ten lengths of retraining, ten rounds to a density of 10.74 %; `gp`
models holes that all trials have, so that it gets the same forty recipes as one choice. First a check of the table:
draws without replacement, the best of them chosen by one measured seed.
"""

from __future__ import annotations

import argparse
import os
import random
import statistics
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from simulated_trials import begin

from prune_search.ledger.records import SearchRecords, TrialRecords
from prune_search.recipe import strict_yaml
from prune_search.recipe.recipe import Recipe
from prune_search.recipe.schema import BLOCKS
from prune_search.recipe.space import Space, read_space
from prune_search.simulation.chain import chain_of
from prune_search.simulation.optimum import optimum, truth_of
from prune_search.simulation.search import simulate_search
from prune_search.simulation.surface import Simulation

CLOSED_FORM = """\
task: {data: digits, model: mlp, seed: 0}
train: {steps: 60ep, batch: 64, optimizer: {name: sgd, lr: {hole: loguniform, low: 0.01, high: 1.0}}}
mask: {at: {hole: choice, of: [0it, 1ep, 5ep, 25%, 50%, 75%, end]}, criterion: magnitude, sparsity: 0.95}
weights: {at: {hole: choice, of: [0it, 1ep, 5ep, 25%, 50%, 75%, end]}}
retrain: {until: end, clock: {hole: choice, of: [0it, 1ep, 5ep, 25%, 50%, 75%]}}
search: {concurrency: 1, controls: false, objectives: [maximize val/accuracy]}
"""
EPOCHS = (10, 30, 50, 70, 90, 110, 130, 150, 170, 182)
TABLE = """\
task: {data: cifar-10, model: NETWORK, seed: 0}
train: {steps: 182ep, batch: 128, optimizer: {name: sgd, lr: 0.1, momentum: 0.9},
        schedule: {name: step, at: [91ep, 136ep], factor: 0.1}}
mask: {at: end, criterion: magnitude, sparsity: {per_round: 0.2}}
rounds: 10
search: {concurrency: 1, controls: false, objectives: [maximize val/accuracy]}
"""
SAMPLERS = ("random", "tpe", "nsga2", "gp")
CHECKED = (4, 8, 16)
MAX_PROPOSALS = 16


@dataclass(frozen=True)
class Field:
    """What is searched.

    Attributes:
        name: shown.
        raw: the space.
        flat: the space for a sampler that knows no conditional holes.
        simulation: the surface.
        seeds: values of task.seed.
        graces: first rung of asha, by the name of the line.
    """

    name: str
    raw: Mapping[str, Any]
    flat: Mapping[str, Any]
    simulation: Simulation
    seeds: int
    graces: Mapping[str, str]

    def space(self, sampler: str, scheduler: str, seed: int, trials: int) -> Space:
        """The space of one search."""
        asha = scheduler in self.graces
        judge = {"name": "asha", "grace": self.graces[scheduler], "eta": 3} if asha else scheduler
        block = {"sampler": sampler, "scheduler": judge, "seed": seed, "trials": trials}
        sets = [*((f"search.{key}", value) for key, value in block.items()), ("task.seed", seed % self.seeds)]
        return read_space(self.flat if sampler == "gp" else self.raw, self.name, sets)


def closed_form() -> Field:
    """The simulator."""
    raw = strict_yaml.load(CLOSED_FORM)
    graces = {"asha": "6ep", "asha 10%": "10%"}
    return Field("closed form, sparsity 95 %", raw, raw, Simulation.of("closed-form"), 1000, graces)


def table(file: str, network: str) -> Field:
    """The measured networks."""
    raw = strict_yaml.load(TABLE.replace("NETWORK", network))
    steps = {"hole": "choice", "of": [f"{epochs}ep" for epochs in EPOCHS]}
    back = {"hole": "choice", "of": [f"end-{epochs}ep" for epochs in EPOCHS]}
    held = {"hold": "final"}
    options = [
        {"weights": {"at": "end"}, "retrain": {"steps": steps, "clock": held}},
        {"weights": {"at": "end"}, "retrain": {"until": "end", "clock": back}},
        {"weights": {"at": back}, "retrain": {"until": "end"}},
        # Weights rewound and the rate not: the table is asked by the length only.
        {"weights": {"at": "0it"}, "retrain": {"steps": steps, "clock": held}},
    ]
    flat = [_filled(option, epochs) for option in options for epochs in EPOCHS]
    name = f"measured {network}, density 10.74 %"
    # The table knows the ends of rounds, and no learning curves: longer than any retraining, so that asha judges there.
    graces = {"asha": "200ep"}
    return Field(name, {**raw, "any": options}, {**raw, "any": flat}, Simulation.of(file), 3, graces)


def _filled(option: Any, epochs: int) -> Any:
    if isinstance(option, Mapping) and "hole" in option:
        return next(value for value in option["of"] if value in (f"{epochs}ep", f"end-{epochs}ep"))
    return {key: _filled(value, epochs) for key, value in option.items()} if isinstance(option, Mapping) else option


def spent(trial: TrialRecords) -> int:
    """Steps of the recipe that a trial went through."""
    if trial.ended is None or trial.duplicate_of is not None:
        return 0
    return int(trial.ended.data["steps_trained"]) + int(trial.ended.data["steps_saved"])


def searched(field: Field, space: Space, steps: float) -> SearchRecords:
    """Search until so many steps are spent."""
    used = 0
    # Nothing here outlives the search.
    os.fsync = lambda fd: None

    def told(records: SearchRecords, trial: TrialRecords | None) -> None:
        nonlocal used
        used += 0 if trial is None else spent(trial)

    with tempfile.TemporaryDirectory() as storage:
        folder = begin(Path(storage), space, field.simulation)
        return simulate_search(space, folder, field.simulation, lambda: used >= steps, told)


def regrets(field: Field, space: Space, budgets: Sequence[float], unit: float, best: float) -> list[float]:
    """Regret in points at each budget, of one search."""
    records = searched(field, space, budgets[-1] * unit)
    used = 0
    chosen, used, found, places = (-1.0, best - 1.0), 0, [], list(budgets)
    for trial in records.numbered():
        used += spent(trial)
        while places and used > places[0] * unit * (1 + 1e-9):
            found.append(100 * (best - chosen[1]))
            places.pop(0)
        if trial.status == "completed":
            recipe = Recipe.read({key: trial.recipe[key] for key in BLOCKS})
            chosen = max(chosen, (trial.metrics["val/accuracy"], truth_of(recipe, field.simulation)), key=_measured)
    return found + [100 * (best - chosen[1])] * len(places)


def _measured(figures: tuple[float, float]) -> float:
    return figures[0]


def unit_of(field: Field) -> float:
    """Mean steps of a recipe of the space, drawn at random."""
    from prune_search.recipe.space_samples import AtRandom

    space, draw = field.space("random", "none", 0, 1), AtRandom(random.Random(0))
    return statistics.fmean(chain_of(space.fill(draw).recipe()).needed for _ in range(200))


def check(field: Field, seeds: int) -> None:
    """Random search on the cells alone."""
    from prune_search.recipe.space_samples import space_samples

    space = field.space("gp", "none", 0, 1)
    recipes = [drawn.recipe() for drawn in space_samples(space.fill)]
    surface, draw = field.simulation.surface, random.Random(0)
    points = [chain_of(recipe).rounds[-1].point for recipe in recipes]
    truths = [surface.outlook(point).truth for point in points]
    measured = [
        [surface.outlook(chain_of(seeded(recipe, seed)).rounds[-1].point).accuracy for seed in range(field.seeds)]
        for recipe in recipes
    ]
    figures = []
    for trials in CHECKED:
        lost = []
        for _ in range(seeds):
            drawn = draw.sample(range(len(recipes)), trials)
            at = max(drawn, key=lambda place: draw.choice(measured[place]))
            lost.append(100 * (max(truths) - truths[at]))
        figures.append(f"{trials}: {statistics.fmean(lost):.2f}")
    low, middle, high = min(truths), statistics.median(truths), max(truths)
    print(
        f"{field.name}: {len(recipes)} recipes, best {100 * high:.2f}, median {100 * middle:.2f}, worst {100 * low:.2f}"
    )
    print(f"  random draws without replacement, chosen by one seed, mean regret of {seeds:,}: {', '.join(figures)}")


def seeded(recipe: Recipe, seed: int) -> Recipe:
    """The recipe with another task.seed."""
    return Recipe.read({**recipe.blocks, "task": {**recipe.blocks["task"], "seed": seed}})


def compare(field: Field, options: argparse.Namespace) -> dict[str, list[tuple[float, float]]]:
    """Print one line per sampler and scheduler; mean regret and its error by line."""
    unit, best = unit_of(field), optimum(field.space("gp", "none", 0, 1), field.simulation)[1]
    budgets = options.budgets
    print(f"{field.name}: best expected accuracy {100 * best:.2f}, a trial has {unit:,.0f} steps,", end=" ")
    print(f"{options.seeds} seeds")
    print("  budget in trials      " + "".join(f"{budget:>16g}" for budget in budgets), flush=True)
    lines: dict[str, list[tuple[float, float]]] = {}
    for sampler in options.samplers:
        for scheduler in ("none", *field.graces):
            # As many proposals as the budget can take; gp, which needs seconds for each, twice as many as whole trials.
            most = int(budgets[-1] * (MAX_PROPOSALS if scheduler != "none" and sampler != "gp" else 2))
            rows = []
            for seed in range(options.seeds):
                rows.append(regrets(field, field.space(sampler, scheduler, seed, most), budgets, unit, best))
            columns = [[row[place] for row in rows] for place in range(len(budgets))]
            line = [(statistics.fmean(column), statistics.stdev(column) / len(column) ** 0.5) for column in columns]
            name = sampler if scheduler == "none" else f"{sampler} + {scheduler}"
            lines[name] = line
            print(f"  {name:22}" + "".join(f"{mean:9.2f} ± {error:4.2f}" for mean, error in line), flush=True)
    return lines


def count(field: Field, options: argparse.Namespace) -> None:
    """Print what became of the trials of random search under asha."""
    unit, most = unit_of(field), int(options.budgets[-1] * MAX_PROPOSALS)
    print(f"{field.name}: random + asha, budget {options.budgets[-1]:g}, by seed")
    for seed in range(options.seeds):
        records = searched(field, field.space("random", "asha", seed, most), options.budgets[-1] * unit)
        counts, used = records.counts(), sum(spent(trial) for trial in records.numbered()) / unit
        shown = ", ".join(f"{counts[key]} {key}" for key in ("completed", "stopped", "duplicate"))
        print(f"  {len(records.numbered())} proposed: {shown}; budget used {used:.1f}", flush=True)


def draw(path: str, fields: Mapping[str, Mapping[str, list[tuple[float, float]]]], budgets: Sequence[float]) -> None:
    """A picture, one panel per surface."""
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    figure, panels = pyplot.subplots(1, len(fields), figsize=(5 * len(fields), 4), squeeze=False)
    for panel, (name, lines) in zip(panels[0], fields.items(), strict=True):
        for label, line in lines.items():
            means, errors = zip(*line, strict=True)
            style = "--" if "asha" in label else "-"
            panel.errorbar(budgets, means, errors, label=label, linestyle=style, capsize=2)
        panel.set(title=name, xlabel="budget in whole trials", ylabel="regret in points", xscale="log", yscale="log")
    panels[0][0].legend(fontsize=8)
    figure.savefig(path, dpi=120, bbox_inches="tight")


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--table", help="a table of measured networks; without, the closed form only")
    parser.add_argument("--networks", nargs="+", default=["resnet-20", "resnet-56"], help="searched is the first")
    parser.add_argument("--table-only", action="store_true", help="leave the closed form out")
    parser.add_argument("--samplers", nargs="+", default=SAMPLERS)
    parser.add_argument("--seeds", type=int, default=30)
    parser.add_argument("--budgets", type=float, nargs="+", default=[4, 8, 16])
    parser.add_argument("--counts", action="store_true", help="only count what became of the trials under asha")
    parser.add_argument("--picture", help="a file to draw the regrets to")
    options = parser.parse_args()
    measured = [table(options.table, network) for network in options.networks] if options.table else []
    if options.counts:
        for field in [closed_form(), *measured[:1]]:
            count(field, options)
        return
    fields = [] if options.table_only else [closed_form()]
    for field in measured:
        check(field, 20_000)
    found = {field.name: compare(field, options) for field in [*fields, *measured[:1]]}
    if options.picture:
        draw(options.picture, found, options.budgets)


if __name__ == "__main__":
    main()
