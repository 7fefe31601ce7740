"""What is more than magnitude and gradients, each once on a task that has no classes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from every_task import given

import prune_search
from prune_search.recipe.problems import UserError

pytestmark = pytest.mark.slow
RETRAINED = {"retrain.steps": "3it"}
# By name: the task, the preset, and what is set of it.
PARADIGMS: Mapping[str, tuple[str, str, Mapping[str, Any]]] = {
    "second order, which compensates": ("regression", "obs", {}),
    "second order at initialization": ("two_inputs", "grasp", {"mask.score": {"batches": 2}}),
    "no data": ("unet", "synflow", {"mask.score.iterations": 3}),
    "learned probabilities": ("regression", "supermask", {}),
    "learned gates": ("unet", "gumbel-mask", {"mask.criterion.steps": "20it", "retrain.steps": "10it"}),
    "hidden in random weights": ("two_inputs", "edge-popup", {}),
    "an integer program": ("regression", "fine-tune", {**RETRAINED, "mask.scope": "knapsack"}),
    "rewound": ("language_model", "late-rewinding", {"rounds": 2, "weights.at": "2it"}),
    "drop and grow": ("multi_label", "set", {}),
}


@pytest.mark.parametrize("what", PARADIGMS)
def test_it_runs_and_is_exact_when_repeated(what: str, tmp_path: Path) -> None:
    task, preset, more = PARADIGMS[what]
    sets, where = given(task, tmp_path)
    values = {**sets, **more}
    result = prune_search.run(preset, set=values, where=where, out=tmp_path / "out")
    assert result.receipt.reached > 0
    assert prune_search.verify(tmp_path / "out", where=where).verdict == "exact"


def test_what_needs_classes_says_so(tmp_path: Path) -> None:
    sets, where = given("regression", tmp_path)
    values = {**sets, "mask.sparsity": 0.5, "mask.score": {"per_class": 2}}
    with pytest.raises(
        UserError, match=r"mask\.score\.per_class: needs a class for each example.*mask\.score\.batches"
    ):
        prune_search.run("snip", set=values, where=where)
