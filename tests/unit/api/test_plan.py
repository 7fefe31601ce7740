"""The cost of a search on this machine, from its plan and what was measured."""

from __future__ import annotations

from typing import Any

import pytest

from prune_search.api.plan import PlannedSearch, plan
from prune_search.recipe.problems import UserError
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
    assert planned.storage_bytes == 2 * made.states * 250
    assert [item["share"] for item in planned.as_data()["calibration"]] == [0.25, 0.75]


def test_set_changes_what_is_planned_and_a_recipe_is_no_search() -> None:
    few = plan(SPACE, calibrated=False).plan
    many = plan(SPACE, set={"train.steps": "4ep"}, calibrated=False).plan
    assert many.steps_shared > few.steps_shared
    with pytest.raises(UserError, match="no holes"):
        plan("snip", calibrated=False)
