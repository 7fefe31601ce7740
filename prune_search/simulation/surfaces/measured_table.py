"""A surface read from a table of measured networks."""

from __future__ import annotations

import csv
import hashlib
import io
import math
import statistics
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from prune_search.recipe.axes import SURFACES
from prune_search.recipe.blocks import Hold
from prune_search.recipe.fields import Text
from prune_search.recipe.problems import Problem, UserError, not_one_of, shown
from prune_search.recipe.recipe import Recipe
from prune_search.recipe.registry import Option
from prune_search.recipe.step import END
from prune_search.simulation.surface import FAULTS, Outlook, SurfacePoint

COLUMNS = (
    "density",
    "retrain_time",
    "test_acc",
    "val_acc",
    "is_iterative",
    "network",
    "prune_method",
    "retrain_method",
    "trial",
)
MAX_BYTES = 64 * 2**20
MAX_PROBLEMS = 10
STRUCTURED = "Structured"
REDRAWN, FINE_TUNE = "reinit", "finetune"
# (weights rewound, rate rewound) to the table's name.
METHODS = {
    (False, False): FINE_TUNE,
    (True, True): "lottery",
    (False, True): "lr_finetune",
    (True, False): "lr_lottery",
}


@dataclass(frozen=True)
class Kind:
    """What is the same for all cells of one curve: the columns of the table that are names.

    Attributes:
        network: as the table calls it.
        iterative: several rounds.
        structured: whole filters were removed.
        method: ``finetune``, ``lottery``, ``lr_finetune``, ``lr_lottery`` or ``reinit``.
    """

    network: str
    iterative: bool
    structured: bool
    method: str


@dataclass(frozen=True)
class Cell:
    """The networks of one place, which differ in their seed only.

    Attributes:
        density: kept share.
        time: epochs of retraining.
        method: of pruning, as the table calls it.
        seeds: (validation accuracy, test accuracy) by the name in the column ``trial``, in the order of the names.
    """

    density: float
    time: float
    method: str
    seeds: Mapping[str, tuple[float, float]]

    @property
    def truth(self) -> float:
        """Mean test accuracy over the seeds."""
        return statistics.fmean(test for _, test in self.seeds.values())

    def measured(self, seed: int) -> float:
        """Validation accuracy of seed number `seed`, counted round and round."""
        found = list(self.seeds.values())
        return found[seed % len(found)][0]


@dataclass(frozen=True)
class MeasuredTable:
    """Accuracies of networks that somebody trained.

    A recipe is looked up as follows. ``task.model`` names the network (``resnet-20``: resnet20). ``mask.at`` must be
    ``end``, the sparsity above 0. Rounds above 1: iterative. Weights from before the end: weights rewound; a clock
    before the end: rate rewound; neither: finetune; weights ``reinit`` among the transforms: reinit. Among the cells of
    that kind, the nearest density (in its logarithm) and then the nearest retraining time is taken: the recipe's
    retraining over its ``train.steps``, times the network's longest time in the table (a retraining from the
    beginning). task.seed is the seed: 0 the first, round and round. What is measured at the end of a round is the
    cell's ``val_acc``; the truth is the mean of its ``test_acc``. The table knows no learning curves: a measurement in
    the middle lies on a curve that begins at half the accuracy and has a half-life of a fifth of the retraining. A
    recipe that removes nothing (the dense control) gets the best cell of the network at its largest density, the
    nearest that there is.

    Attributes:
        cells: by kind.
        content: sha256 of the file.
        failing: share of the trials whose loss becomes NaN.
        dying: share of the attempts whose process dies.
    """

    cells: Mapping[Kind, tuple[Cell, ...]]
    content: str
    failing: float = 0.0
    dying: float = 0.0
    _found: dict[Any, Cell] = field(default_factory=dict, compare=False, repr=False)

    @cached_property
    def networks(self) -> tuple[str, ...]:
        """Names in the table."""
        return tuple(dict.fromkeys(kind.network for kind in self.cells))

    @cached_property
    def longest(self) -> Mapping[str, float]:
        """Network to its longest retraining in epochs."""
        times: dict[str, float] = {}
        for kind, cells in self.cells.items():
            times[kind.network] = max(times.get(kind.network, 0.0), *(cell.time for cell in cells))
        return times

    def check(self, recipe: Recipe) -> None:
        """Refuse a recipe of which the table has no cell.

        Raises:
            UserError: with what it lacks.
        """
        network = network_of(recipe)
        if network not in self.networks:
            raise UserError([Problem("task.model", f"the table has no {not_one_of(network, self.networks)}")])
        if _removes_nothing(recipe):
            return
        problems = []
        if recipe.mask.at != END:
            got = recipe.mask.stable.written if recipe.mask.stable is not None else recipe.mask.at
            problems.append(Problem("mask.at", f"the table only has masks found at end (got {got})"))
        if recipe.mask.control is not None:
            problems.append(Problem("mask.control", "the table has no networks with a control mask"))
        kind = kind_of(recipe)
        if not problems and kind not in self.cells:
            words = f"{'iterative' if kind.iterative else 'one-shot'} {'structured' if kind.structured else ''}".strip()
            problems.append(Problem("", f"the table has no {words} {kind.method} of {kind.network}", form=False))
        if problems:
            raise UserError(problems)

    def outlook(self, point: SurfacePoint) -> Outlook:
        """The nearest cell."""
        cell = self.cell(point)
        accuracy = cell.measured(point.recipe.seed)
        return Outlook(cell.truth, accuracy, accuracy / 2, 0.2, 0.0)

    def cell(self, point: SurfacePoint) -> Cell:
        """The nearest cell of a round."""
        network = network_of(point.recipe)
        if _removes_nothing(point.recipe):
            return self._densest(network)
        line = point.timeline
        time = line.retrain_steps / line.total * self.longest[network] if line.total else 0.0
        key = (kind_of(point.recipe), point.density, time)
        if key not in self._found:
            self._found[key] = nearest(self.cells[key[0]], point.density, time)
        return self._found[key]

    def _densest(self, network: str) -> Cell:
        cells = [cell for kind, found in self.cells.items() if kind.network == network for cell in found]
        return max(cells, key=lambda cell: (cell.density, cell.truth))


def nearest(cells: Iterable[Cell], density: float, time: float) -> Cell:
    """The cell of the nearest density (in its logarithm), then of the nearest retraining time; ties: the first."""

    def distance(cell: Cell) -> tuple[float, float]:
        # Densities of one sparsity are written with different rounding in published tables.
        apart = abs(math.log(cell.density / max(density, 1e-12)))
        return (round(apart, 2), abs(cell.time - time))

    return min(cells, key=distance)


def network_of(recipe: Recipe) -> str:
    """The recipe's model as the table calls it."""
    return recipe.task.model.name.replace("-", "")


def kind_of(recipe: Recipe) -> Kind:
    """Which curve of the table a recipe lies on."""
    structured = recipe.mask.granularity.name != "weight"
    clock = None if recipe.retrain is None else recipe.retrain.clock
    on_clock = clock is not None and not isinstance(clock, Hold)
    rewound = (recipe.weights.at != END, on_clock and clock != END)
    redrawn = any(transform.name == REDRAWN for transform in recipe.transforms)
    return Kind(network_of(recipe), recipe.rounds > 1, structured, REDRAWN if redrawn else METHODS[rewound])


def _removes_nothing(recipe: Recipe) -> bool:
    return recipe.mask.sparsity.final == 0.0


# --- the file ---------------------------------------------------------------------------------------------------------


@SURFACES.register(
    "measured-table",
    summary="nearest cell of a table of measured networks (a CSV file); its columns: " + ", ".join(COLUMNS),
    source="the layout of the data of Renda, Frankle & Carbin 2020, Comparing Rewinding and Fine-tuning, 2003.02389",
    options={"file": Option(Text(4000), doc="path of the CSV file"), **FAULTS},
)
def measured_table(*, file: str, failing: float, dying: float) -> MeasuredTable:
    """Read a table.

    Raises:
        UserError: the file cannot be read, lacks columns, or a row is wrong.
    """
    try:
        with open(file, "rb") as opened:
            data = opened.read(MAX_BYTES + 1)
        text = data.decode("utf-8-sig")
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
        raise UserError([Problem("", f"cannot be read: {reason}", file)]) from None
    if len(data) > MAX_BYTES:
        raise UserError([Problem("", f"is larger than {MAX_BYTES >> 20} MiB", file)])
    cells = _cells(text, file)
    return MeasuredTable(cells, hashlib.sha256(data).hexdigest(), failing, dying)


def _cells(text: str, file: str) -> dict[Kind, tuple[Cell, ...]]:
    reader = csv.DictReader(io.StringIO(text, newline=""))
    try:
        has = reader.fieldnames or ()
    except csv.Error as error:
        raise UserError([Problem("line 1", str(error), file)]) from error
    missing = [column for column in COLUMNS if column not in has]
    if missing:
        many = "columns" if len(missing) > 1 else "column"
        raise UserError([Problem("", f"lacks the {many} {', '.join(missing)} (has {_list(has)})", file)])
    problems: list[Problem] = []
    found: dict[Kind, dict[tuple[float, float, str], dict[str, tuple[float, float]]]] = {}
    while True:
        try:
            # csv itself refuses some rows, as one with a field that is too long.
            if (row := next(reader, None)) is None:
                break
            kind, place, seed, accuracies = _row(row)
        except (ValueError, csv.Error) as error:
            # A line that csv refuses is not counted yet.
            line = reader.line_num + isinstance(error, csv.Error)
            problems.append(Problem(f"line {line}", str(error), file))
            if len(problems) >= MAX_PROBLEMS:
                break
            continue
        found.setdefault(kind, {}).setdefault(place, {}).setdefault(seed, accuracies)
    if not found and not problems:
        problems.append(Problem("", "has no rows", file))
    if problems:
        raise UserError(problems)
    return {
        kind: tuple(Cell(*place, dict(sorted(seeds.items()))) for place, seeds in sorted(places.items()))
        for kind, places in found.items()
    }


def _row(row: Mapping[str, Any]) -> tuple[Kind, tuple[float, float, str], str, tuple[float, float]]:
    density, validation, test = (_share(row, column) for column in ("density", "val_acc", "test_acc"))
    if density == 0:
        raise ValueError("density: must be above 0")
    time = _number(row, "retrain_time")
    if row["is_iterative"] not in ("True", "False"):
        raise ValueError(f"is_iterative: must be True or False (got {shown(row['is_iterative'])})")
    pruned = str(row["prune_method"])
    iterative, structured = row["is_iterative"] == "True", pruned.startswith(STRUCTURED)
    kind = Kind(str(row["network"]), iterative, structured, str(row["retrain_method"]))
    return kind, (density, time, pruned), str(row["trial"]), (validation, test)


def _number(row: Mapping[str, Any], column: str) -> float:
    try:
        value = float(row[column])
    except (TypeError, ValueError):
        value = math.nan
    if not (math.isfinite(value) and value >= 0):
        raise ValueError(f"{column}: must be a number of at least 0 (got {shown(row[column])})")
    return value


def _share(row: Mapping[str, Any], column: str) -> float:
    value = _number(row, column)
    if value > 1:
        raise ValueError(f"{column}: must be in 0 … 1 (got {shown(row[column])})")
    return value


def _list(names: Iterable[str] | None) -> str:
    return ", ".join(names or ()) or "none"
