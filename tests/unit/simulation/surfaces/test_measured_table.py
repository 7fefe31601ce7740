"""A surface read from a table: which cell a recipe is, and what is said of a table that is wrong."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pytest

from prune_search.recipe.problems import UserError
from prune_search.recipe.recipe import Recipe
from prune_search.recipe.space import read_space
from prune_search.simulation.chain import chain_of
from prune_search.simulation.surface import Outlook, Simulation
from prune_search.simulation.surfaces.measured_table import COLUMNS

METHODS = ("finetune", "lottery", "lr_finetune", "lr_lottery", "reinit")
TIMES = (10.0, 90.0, 182.0)


def row(**given: Any) -> dict[str, Any]:
    usual: dict[str, Any] = {
        "density": 0.1074,
        "retrain_time": 10.0,
        "test_acc": 0.8,
        "val_acc": 0.79,
        "is_iterative": False,
    }
    usual |= {"network": "resnet20", "prune_method": "Unstructured", "retrain_method": "finetune", "trial": "trial_1"}
    return {**usual, **given}


def write(path: Path, rows: list[dict[str, Any]], columns: tuple[str, ...] = COLUMNS) -> str:
    with open(path, "w", newline="") as file:
        writer = csv.DictWriter(file, [*columns, "flops"], extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)
    return str(path)


@pytest.fixture
def table(tmp_path: Path) -> str:
    """Every cell has an accuracy of its own: method, time, density, iterative and seed are digits of it."""
    rows = [
        row(
            density=density,
            retrain_time=time,
            retrain_method=method,
            is_iterative=iterative,
            trial=f"trial_{seed + 1}",
            val_acc=0.1 * m + 0.01 * t + 0.001 * d + 0.0001 * iterative + 0.00001 * seed,
            test_acc=0.5 + 0.1 * seed,
        )
        for m, method in enumerate(METHODS)
        for t, time in enumerate(TIMES)
        for d, density in enumerate((0.8, 0.1074, 0.0225))
        for iterative in (False, True)
        for seed in range(3)
    ]
    return write(tmp_path / "table.csv", rows)


def recipe(**given: Any) -> Recipe:
    raw = {
        "task": {"data": "cifar-10", "model": "resnet-20", "seed": 0},
        "train": {"steps": "182ep", "schedule": {"name": "step", "at": ["50%"], "factor": 0.1}},
        "mask": {"at": "end", "criterion": "magnitude", "sparsity": 0.9},
        "weights": {"at": "end"},
        "retrain": {"steps": "10ep", "clock": {"hold": "final"}},
    }
    return read_space({**raw, **given}, "a test").only_recipe()


def outlook(table: str, given: Recipe, number: int = -1) -> Outlook:
    surface = Simulation.of(table).surface
    surface.check(given)
    return surface.outlook(chain_of(given).rounds[number].point)


CELLS = [
    ({}, 0.001),
    ({"retrain": {"steps": "100ep", "clock": {"hold": "final"}}}, 0.011),
    ({"weights": {"at": "end-10ep"}, "retrain": {"until": "end"}}, 0.101),
    ({"weights": {"at": "0it"}, "retrain": {"until": "end"}}, 0.121),
    ({"retrain": {"until": "end", "clock": "end-90ep"}}, 0.211),
    ({"weights": {"at": "end-90ep"}, "retrain": {"steps": "90ep", "clock": {"hold": "final"}}}, 0.311),
    ({"weights": {"at": "0it", "transform": ["reinit"]}, "retrain": {"until": "end"}}, 0.421),
    ({"rounds": 10, "mask": {"at": "end", "criterion": "magnitude", "sparsity": {"per_round": 0.2}}}, 0.0011),
    ({"mask": {"at": "end", "criterion": "magnitude", "sparsity": 0.99}}, 0.002),
    ({"task": {"data": "cifar-10", "model": "resnet-20", "seed": 4}}, 0.00101),
]


@pytest.mark.parametrize(("given", "accuracy"), CELLS)
def test_a_recipe_is_the_nearest_cell_of_its_kind(table: str, given: dict[str, Any], accuracy: float) -> None:
    assert outlook(table, recipe(**given)).accuracy == pytest.approx(accuracy, abs=1e-9)


def test_the_truth_is_the_mean_test_accuracy_over_the_seeds(table: str) -> None:
    assert outlook(table, recipe()).truth == pytest.approx(0.6)


def test_every_round_has_its_own_density(table: str) -> None:
    given = recipe(rounds=17, mask={"at": "end", "criterion": "magnitude", "sparsity": {"per_round": 0.2}})
    found = [outlook(table, given, number).accuracy for number in (0, 9, 16)]
    assert found == pytest.approx([0.0001, 0.0011, 0.0021])


def test_what_the_table_does_not_have_is_refused(table: str) -> None:
    surface = Simulation.of(table).surface
    pruned = {"at": "end", "criterion": "magnitude", "sparsity": 0.9}
    filters = {**pruned, "criterion": "l1", "granularity": "filter"}
    early = {"mask": {**pruned, "at": "0it"}, "weights": {"at": "0it"}, "retrain": {"until": "end"}}
    for given, said in (
        ({"task": {"data": "cifar-10", "model": "resnet-56"}}, "task.model: the table has no 'resnet56'"),
        (early, "mask.at: the table only has masks found at"),
        ({"mask": {**pruned, "control": "shuffle"}}, "mask.control: the table has no networks"),
        ({"mask": filters}, "no one-shot structured"),
    ):
        with pytest.raises(UserError) as refused:
            surface.check(recipe(**given))
        assert said in "; ".join(str(problem) for problem in refused.value.problems)


def test_the_dense_network_is_the_best_of_the_largest_density(table: str) -> None:
    dense = recipe(mask={"at": "end", "criterion": "all", "sparsity": 0}, retrain="none")
    surface = Simulation.of(table).surface
    surface.check(dense)
    assert surface.outlook(chain_of(dense).rounds[-1].point).truth == pytest.approx(0.6)


def test_a_table_that_lacks_columns_is_refused_with_their_names(tmp_path: Path) -> None:
    columns = tuple(column for column in COLUMNS if column not in ("val_acc", "trial"))
    path = write(tmp_path / "short.csv", [row()], columns)
    with pytest.raises(UserError, match="lacks the columns val_acc, trial"):
        Simulation.of(path)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"density": 0}, "line 3: density: must be above 0"),
        ({"val_acc": "1.5"}, "line 3: val_acc: must be in 0 … 1"),
        ({"test_acc": "nan"}, "line 3: test_acc: must be a number"),
        ({"retrain_time": ""}, "line 3: retrain_time: must be a number"),
        ({"is_iterative": "yes"}, "line 3: is_iterative: must be True or False"),
    ],
)
def test_a_wrong_row_is_named_by_its_line(tmp_path: Path, wrong: dict[str, Any], said: str) -> None:
    path = write(tmp_path / "wrong.csv", [row(), row(**wrong)])
    with pytest.raises(UserError) as refused:
        Simulation.of(path)
    assert said in str(refused.value.problems[0])


@pytest.mark.parametrize("line", [1, 3])
def test_a_field_that_csv_refuses_is_named_by_its_line(tmp_path: Path, line: int) -> None:
    path = write(tmp_path / "long.csv", [row(), row()])
    lines = Path(path).read_text().splitlines()
    lines[line - 1] += "," + "x" * 200_000
    Path(path).write_text("\n".join(lines))
    with pytest.raises(UserError, match=rf"line {line}: field larger than"):
        Simulation.of(path)


def test_files_that_are_no_table_are_refused(tmp_path: Path) -> None:
    (tmp_path / "bytes.csv").write_bytes(b"\xff\xfe\x00")
    write(tmp_path / "empty.csv", [])
    for name, said in (("none.csv", "cannot be read"), ("bytes.csv", "not UTF-8"), ("empty.csv", "has no rows")):
        with pytest.raises(UserError, match=said):
            Simulation.of(str(tmp_path / name))


def test_a_table_that_has_changed_is_not_taken_for_the_same(table: str) -> None:
    kept = Simulation.of(table).as_data()
    assert Simulation.again(kept).as_data() == kept
    with open(table, "a") as file:
        file.write("0.5,10.0,0.8,0.8,False,resnet20,Unstructured,finetune,trial_9,\n")
    with pytest.raises(UserError, match="has changed since"):
        Simulation.again(kept)
