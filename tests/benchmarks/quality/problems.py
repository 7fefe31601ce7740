"""Problems whose answers are known: a space, a surface, and the expected accuracy of every recipe."""

from __future__ import annotations

import gzip
import json
import math
import random
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, cached_property
from pathlib import Path
from typing import Any

from prune_search.recipe import strict_yaml
from prune_search.recipe.blocks import Hold
from prune_search.recipe.problems import UserError
from prune_search.recipe.recipe import Recipe, digest_of
from prune_search.recipe.space import Space, read_space
from prune_search.recipe.space_samples import AtRandom
from prune_search.search.suggest import walk
from prune_search.simulation.chain import chain_of
from prune_search.simulation.optimum import optimum, truth_of
from prune_search.simulation.surface import Outlook, Simulation, SurfacePoint
from prune_search.simulation.surfaces.measured_table import Cell, Kind, MeasuredTable, kind_of, nearest
from prune_search.training.randomness import derive
from quality.shared import Shared

# More than any search of these budgets proposes.
MOST_TRIALS = 300
SAMPLED = 400
EPOCHS = (10, 30, 50, 70, 90, 110, 130, 150, 170, 182)
NETWORKS = ("resnet20", "resnet56", "resnet110", "resnet50")
# Kept after ten rounds of a fifth each.
SPARSEST = 1 - 0.8**10
TABLE = """\
task: {data: cifar-10, model: resnet-20, seed: 0}
train: {steps: 182ep, batch: 128, optimizer: {name: sgd, lr: 0.1, momentum: 0.9},
        schedule: {name: step, at: [91ep, 136ep], factor: 0.1}}
mask: {at: end, criterion: magnitude}
search: {concurrency: 1, controls: false, objectives: [maximize val/accuracy]}
"""
ROUNDS: Mapping[str, Any] = {"chains": 10, "one-shot": 1, "both": {"hole": "choice", "of": [1, 10]}}
CLOSED_FORM = """\
task: {data: digits, model: mlp, seed: 0}
train: {steps: 60ep, batch: 64, optimizer: {name: sgd, lr: {hole: loguniform, low: 0.01, high: 1.0}}}
mask: {at: {hole: choice, of: [0it, 1ep, 5ep, 25%, 50%, 75%, end]}, criterion: magnitude, sparsity: 0.95}
weights: {at: {hole: choice, of: [0it, 1ep, 5ep, 25%, 50%, 75%, end]}}
retrain: {until: end, clock: {hole: choice, of: [0it, 1ep, 5ep, 25%, 50%, 75%]}}
search: {concurrency: 1, controls: false, objectives: [maximize val/accuracy]}
"""
# Share of the weights that each cut of a measured grid keeps.
KEPT = 0.7


@dataclass(frozen=True)
class Problem:
    """What is searched.

    Attributes:
        name: shown.
        raw: the space.
        flat: the space for a sampler that learns only of holes that every trial has.
        simulation: the surface of a search, by its seed.
        grace: first rung of asha.
        whole: whether every recipe of the space is listed to find the best.
        own: whether the surface is the formula that `guided` has as a prior.
    """

    name: str
    raw: Mapping[str, Any]
    flat: Mapping[str, Any]
    simulation: Callable[[int], Simulation]
    grace: str
    whole: bool = True
    own: bool = False
    read: dict[str, Space] = field(default_factory=dict)
    shared: Shared = field(default_factory=Shared)

    def space(self, sampler: Any, scheduler: str, seed: int) -> Space:
        """The space of one search; `seed` is its own, and that of its recipes."""
        key = f"{sampler} {scheduler}"
        if key not in self.read:
            judge = scheduler if scheduler == "none" else {"name": scheduler, "grace": self.grace, "eta": 3}
            block = {"sampler": sampler, "scheduler": judge, "trials": MOST_TRIALS}
            sets = [(f"search.{key}", value) for key, value in block.items()]
            self.read[key] = read_space(self.flat if sampler == "gp" else self.raw, self.name, sets)
        space = self.read[key]
        options = [
            (name, {**blocks, "task": {**blocks["task"], "seed": seed}}) for name, blocks in space.written.options
        ]
        written = replace(space.written, options=tuple(options))
        return replace(space, written=written, search={**space.search, "seed": seed})

    @cached_property
    def recipes(self) -> list[Recipe]:
        """All recipes of the space, or many at random."""
        space = self.space("random", "none", 0)
        if not self.whole:
            draw = AtRandom(random.Random(0))
            return [space.fill(draw).recipe() for _ in range(SAMPLED)]
        unlike: dict[str, Recipe] = {}
        for drawn, _ in walk(2, space.fill):
            try:
                recipe = drawn.recipe()
                chain_of(recipe)
            except UserError:
                # An invalid region, which no sampler proposes.
                continue
            unlike.setdefault(digest_of(recipe.canonical), recipe)
        return list(unlike.values())

    @cached_property
    def truths(self) -> list[float]:
        """Their expected accuracies."""
        return [truth_of(recipe, self.simulation(0)) for recipe in self.recipes]

    @cached_property
    def best(self) -> float:
        """The best expected accuracy of the space."""
        return max(self.truths) if self.whole else optimum(self.space("gp", "none", 0), self.simulation(0), points=3)[1]

    @cached_property
    def typical(self) -> float:
        """The mean one."""
        return statistics.fmean(self.truths)

    @cached_property
    def unit(self) -> float:
        """Mean steps of a recipe from nothing."""
        return statistics.fmean(chain_of(recipe).needed for recipe in self.recipes)


# --- the closed form --------------------------------------------------------------------------------------------------


def closed_form() -> Problem:
    """The simulator's formula; task.seed is its noise."""
    raw, simulation = strict_yaml.load(CLOSED_FORM), Simulation.of("closed-form")
    return Problem("closed form, sparsity 95 %", raw, raw, lambda seed: simulation, "10%", whole=False, own=True)


# --- the table --------------------------------------------------------------------------------------------------------


# Cells of the one table that is read.
FOUND: dict[tuple[Kind, float, float], Cell] = {}


@dataclass(frozen=True)
class SeededTable:
    """A network of a table; every chain of rounds takes the networks of one seed, another one in each search.

    Attributes:
        table: the measured networks.
        network: as the table calls it; the recipe's model does not matter.
        seed: of the search.
    """

    table: MeasuredTable
    network: str
    seed: int
    failing: float = 0.0
    dying: float = 0.0
    content: str = ""

    def check(self, recipe: Recipe) -> None:
        """Nothing: the space holds what was measured only."""

    def outlook(self, point: SurfacePoint) -> Outlook:
        """The nearest cell, of the chain's seed."""
        line, kind = point.timeline, replace(kind_of(point.recipe), network=self.network)
        time = line.retrain_steps / line.total * self.table.longest[self.network]
        key = (kind, point.density, time)
        if key not in FOUND:
            FOUND[key] = nearest(self.table.cells[kind], point.density, time)
        cell = FOUND[key]
        accuracy = cell.measured(derive(self.seed, "chain", kind.method, line.retrain_steps, point.recipe.rounds))
        return Outlook(cell.truth, accuracy, accuracy / 2, 0.2, 0.0)


@cache
def _table(file: str) -> MeasuredTable:
    surface = Simulation.of(file).surface
    if not isinstance(surface, MeasuredTable):
        raise UserError(f"{file} is no table of measured networks")
    return surface


def table(file: str, network: str, which: str) -> Problem:
    """The measured networks: four ways of retraining for ten lengths, in ten rounds, in one, or in either.

    The table's fourth way rewinds the weights by as much as is then trained at the last rate. Independent holes cannot
    say so: here the weights are always those of the middle of the training, which they are on average.
    """
    base = strict_yaml.load(TABLE)
    mask = {**base["mask"], "sparsity": round(SPARSEST, 4)}
    steps = {"hole": "choice", "of": [f"{epochs}ep" for epochs in EPOCHS]}
    back = {"hole": "choice", "of": [f"end-{epochs}ep" for epochs in EPOCHS]}
    held = {"hold": "final"}
    options: list[dict[str, Any]] = [
        {"weights": {"at": "end"}, "retrain": {"steps": steps, "clock": held}},
        {"weights": {"at": "end"}, "retrain": {"until": "end", "clock": back}},
        {"weights": {"at": back}, "retrain": {"until": "end"}},
    ]
    if network != "resnet50":
        options.append({"weights": {"at": "end-91ep"}, "retrain": {"steps": steps, "clock": held}})
    flat = [_filled(option, epochs) for option in options for epochs in EPOCHS]
    raw = {**base, "mask": mask, "rounds": ROUNDS[which]}

    def simulation(seed: int) -> Simulation:
        return Simulation("closed-form", SeededTable(_table(file), network, seed))

    # The table knows the ends of rounds, and no learning curves: longer than any retraining, so that asha judges there.
    return Problem(f"{network}, {which}", {**raw, "any": options}, {**raw, "any": flat}, simulation, "200ep")


def _filled(option: Any, epochs: int) -> Any:
    if isinstance(option, Mapping) and "hole" in option:
        return next(value for value in option["of"] if value in (f"{epochs}ep", f"end-{epochs}ep"))
    return {key: _filled(value, epochs) for key, value in option.items()} if isinstance(option, Mapping) else option


# --- a measured grid --------------------------------------------------------------------------------------------------


def drawn_of(cell: Sequence[tuple[float, float]], seed: int, *words: str | int) -> Outlook:
    """What a search sees of a network that was trained with several seeds: one of them, drawn for the search.

    Args:
        cell: (validation, test) accuracies by seed of training; what is expected is the mean over them.
        seed: of the search.
        words: what the draw is for.
    """
    accuracy = cell[derive(seed, *words) % len(cell)][0]
    return Outlook(statistics.fmean(test for _, test in cell), accuracy, accuracy / 2, 0.2, 0.0)


@dataclass(frozen=True)
class Trained:
    """Recipes of a space that were all trained, each with several seeds.

    Attributes:
        measured: of a round of a recipe, what tells the recipe apart, and (validation, test) accuracies by seed.
        seed: of the search: each recipe takes one of its seeds.
    """

    measured: Callable[[SurfacePoint], tuple[str, Sequence[tuple[float, float]]]]
    seed: int = 0
    failing: float = 0.0
    dying: float = 0.0
    content: str = ""

    def check(self, recipe: Recipe) -> None:
        """Nothing: the space holds what was measured only."""

    def outlook(self, point: SurfacePoint) -> Outlook:
        """The trained networks."""
        place, cell = self.measured(point)
        return drawn_of(cell, self.seed, "trained", place)


@dataclass(frozen=True)
class MeasuredGrid:
    """Networks of every point of a grid, each trained with several seeds.

    Attributes:
        places: what the grid's axes are in units of the training: ``K``, ``LRS``, ``K2``, ``CL``, ``LS``.
        cells: by kind, rate, place of the weights, clock, length and number of 30 % cuts: accuracies by seed.
        seed: of the search.
    """

    places: Mapping[str, Any]
    cells: Mapping[tuple[Any, ...], Sequence[tuple[float, float]]]
    seed: int = 0
    failing: float = 0.0
    dying: float = 0.0
    content: str = ""

    def check(self, recipe: Recipe) -> None:
        """Nothing: the space holds what was measured only."""

    def outlook(self, point: SurfacePoint) -> Outlook:
        """The measured networks."""
        *chain, number = self._place(point)
        return drawn_of(self.cells[*chain, number], self.seed, "chain", *chain, point.recipe.rounds == 1 and number)

    def _place(self, point: SurfacePoint) -> tuple[Any, ...]:
        recipe, line, total = point.recipe, point.timeline, self.places["K"]
        cuts = round(math.log(point.density) / math.log(KEPT))
        kind = "one" if recipe.rounds == 1 else {1: "q1", 2: "q2"}[cuts // point.number]
        taken = 1.0 if line.k2 is None else line.k2 / total
        held = recipe.retrain is not None and isinstance(recipe.retrain.clock, Hold)
        clock = 2.0 if held or line.clock is None else line.clock / total
        found = recipe.optimizer.options["lr"], taken, clock, line.retrain_steps / total
        axes = (self.places[name] for name in ("LRS", "K2", "CL", "LS"))
        return kind, *(axis.index(value) for axis, value in zip(axes, found, strict=True)), cuts


@cache
def _grid(file: str) -> MeasuredGrid:
    content = Path(file).read_bytes()
    data = json.loads(gzip.decompress(content) if file.endswith(".gz") else content)
    cells: dict[tuple[Any, ...], list[tuple[float, float]]] = {}
    for *place, _, validation, test in data["rows"]:
        cells.setdefault(tuple(place), []).append((validation, test))
    return MeasuredGrid({name: data[name] for name in ("data", "K", "LRS", "K2", "CL", "LS")}, cells)


def grid(file: str, cuts: int) -> Problem:
    """Rate, places, length, and how the weights are removed, down to 0.7 to the power of `cuts`."""
    known = _grid(file)
    total = known.places["K"]

    def its(shares: Sequence[float]) -> list[Any]:
        return [f"{round(share * total)}it" for share in shares]

    taken = [*its(known.places["K2"][:-1]), "end"]
    clocks = [*its(known.places["CL"][:-1]), {"hold": "final"}]
    raw = {
        "task": {"data": known.places["data"], "model": "mlp", "seed": 0},
        "train": {
            "steps": f"{total}it",
            "batch": 64,
            "optimizer": {"name": "sgd", "lr": {"hole": "choice", "of": known.places["LRS"]}, "momentum": 0.9},
            "schedule": {"name": "step", "at": ["50%", "75%"], "factor": 0.1},
        },
        "mask": {"at": "end", "criterion": "magnitude", "sparsity": round(1 - KEPT**cuts, 6)},
        "weights": {"at": {"hole": "choice", "of": taken}},
        "retrain": {
            "steps": {"hole": "choice", "of": its(known.places["LS"])},
            "clock": {"hole": "choice", "of": clocks},
        },
        "rounds": {"hole": "choice", "of": [1, cuts // 2, cuts]},
        "search": {"concurrency": 1, "controls": False, "objectives": ["maximize val/accuracy"]},
    }
    name = f"{known.places['data']} measured, density {100 * KEPT**cuts:.1f} %"
    return Problem(name, raw, raw, lambda seed: Simulation("closed-form", replace(known, seed=seed)), "500it")


def problems(file: str | None, grids: Sequence[str], cuts: Sequence[int] = (4, 6, 8)) -> list[Problem]:
    """All of them: the closed form, the table's where there is a table, and those of measured grids."""
    found = [closed_form()]
    if file is not None:
        found += [table(file, network, which) for which in ROUNDS for network in NETWORKS]
    return found + [grid(name, number) for name in grids if Path(name).exists() for number in cuts]
