"""The cost of a search on this machine, from its plan and what was measured."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from prune_search.api.plan import PlannedSearch, plan
from prune_search.api.run import run
from prune_search.api.where import Where
from prune_search.recipe.problems import UserError
from prune_search.storage.inventory import take_inventory
from prune_search.trial.calibration import Calibration

SPACE = {
    "task": {"data": "digits", "model": "mlp"},
    "train": {"steps": "2ep"},
    "preset": "snip",
    "mask": {"sparsity": {"hole": "uniform", "low": 0.5, "high": 0.9}},
    "search": {"trials": 3},
}


def test_without_a_measurement_there_is_no_cost_in_hours() -> None:
    planned = plan(SPACE, calibrated=False)
    data = planned.as_data()
    assert (data["device_hours"], data["storage_bytes"], data["calibration"]) == (None, None, [])
    assert planned.plan.steps_shared > 0


def test_the_cost_is_the_mean_over_the_kinds_of_networks_by_their_shares() -> None:
    made = plan(SPACE, calibrated=False).plan
    fields: dict[str, Any] = {"seconds_per_step": 2.0, "seconds_per_evaluation": 0.0, "model_bytes": 100}
    slow = Calibration(**{**dict.fromkeys(Calibration.__dataclass_fields__, 0), **fields})
    fast = Calibration(**{**vars(slow), "seconds_per_step": 1.0, "model_bytes": 300})
    planned = PlannedSearch(made, ((slow, 0.25), (fast, 0.75)))
    assert planned.device_hours == pytest.approx(1.25 * (made.steps_shared + made.steps_controls) / 3600)
    assert planned.storage_bytes == made.states * 250
    assert [item["share"] for item in planned.as_data()["calibration"]] == [0.25, 0.75]


def test_set_changes_what_is_planned_and_a_recipe_is_no_search() -> None:
    few = plan(SPACE, calibrated=False).plan
    many = plan(SPACE, set={"train.steps": "4ep"}, calibrated=False).plan
    assert many.steps_shared > few.steps_shared
    with pytest.raises(UserError, match="no holes"):
        plan("snip", calibrated=False)


GRID = {
    "task": {"data": "digits", "model": {"name": "mlp", "hidden": [16]}},
    "train": {"steps": "20it", "batch": 128},
    "mask": {"at": "end", "criterion": "magnitude", "sparsity": {"hole": "choice", "of": [0.5, 0.9]}},
    "weights": {"at": "end"},
    "retrain": {"steps": "10it"},
    "search": {"sampler": "grid", "trials": 2, "controls": False},
}


def test_what_the_storage_has_is_counted_and_nothing_is_stored(tmp_path: Path) -> None:
    storage = tmp_path / "store"
    where = Where(storage=storage)
    empty = plan(GRID, where=where, calibrated=False)
    assert (empty.plan.steps_shared, empty.plan.steps_stored) == (20 + 10 + 10, 0)
    assert not storage.exists()
    assert plan(GRID, where=where, calibrated=False, stored=False).plan.steps_stored is None
    recipe = {key: value for key, value in GRID.items() if key != "search"}
    run(recipe, set={"mask.sparsity": 0.9}, where=where)
    files = sorted(str(path) for path in storage.rglob("*"))
    # Trajectory 1, which both trials share, and one of two retrainings.
    made = plan(GRID, where=where, calibrated=False)
    assert made.plan.steps_stored == 20 + 10
    assert made.as_data()["steps_stored"] == 30
    assert plan(GRID, set={"retrain.steps": "5it"}, where=where, calibrated=False).plan.steps_stored == 20
    # Another rate is another trajectory, in another storage there is nothing.
    assert plan(GRID, set={"train.optimizer.lr": 0.02}, where=where, calibrated=False).plan.steps_stored == 0
    assert plan(GRID, where=Where(storage=tmp_path / "other"), calibrated=False).plan.steps_stored == 0
    assert sorted(str(path) for path in storage.rglob("*")) == files
    fields: dict[str, Any] = {"seconds_per_step": 3600.0, "seconds_per_evaluation": 0.0, "model_bytes": 1}
    calibration = Calibration(**{**dict.fromkeys(Calibration.__dataclass_fields__, 0), **fields})
    assert PlannedSearch(made.plan, ((calibration, 1.0),)).device_hours == 10


def test_the_planned_storage_is_what_is_stored(tmp_path: Path) -> None:
    where = Where(storage=tmp_path / "store")
    network = {"task.model": {"name": "mlp", "hidden": [256]}, "mask.sparsity": {"hole": "choice", "of": [0.9]}}
    planned = plan(GRID, set={**network, "search.trials": 1}, where=where)
    recipe = {key: value for key, value in GRID.items() if key != "search"}
    run(recipe, set={**network, "mask.sparsity": 0.9}, where=where)
    found = take_inventory(tmp_path / "store")
    assert planned.plan.states == len(found.states)
    assert planned.storage_bytes == pytest.approx(found.size, rel=0.05)
