"""Names of metrics that a task brings, and the search block that is made to fit them."""

from __future__ import annotations

from typing import Any

import pytest

from prune_search.recipe.metric_names import (
    LEADING,
    can_be_a_tasks,
    is_share,
    lead,
    metric_facts,
    quality,
    searchable,
    wrong_metric,
)
from prune_search.recipe.search_block import DEFAULT_OBJECTIVES, resolved


def test_a_tasks_metric_is_known_by_its_registered_name() -> None:
    for name, best, split in (
        ("val/rmse", "minimize", "validation"),
        ("test/rmse", "minimize", "test"),
        ("val/f1", "maximize", "validation"),
        ("val/my-own", "maximize", "validation"),
    ):
        facts = metric_facts(name)
        assert (facts.best, facts.split, facts.score) == (best, split, name.partition("/")[2])
    assert metric_facts("sparsity").split == ""
    assert (is_share("val/f1"), is_share("val/rmse"), is_share("val/my-own")) == (True, False, False)


def test_only_val_and_a_word_can_be_a_tasks() -> None:
    named = {"val/f1", "val/my-own", "val/a/b", "val/", "val/a b", "test/f1", "f1", "sparsity"}
    assert {name for name in named if can_be_a_tasks(name)} == {"val/f1", "val/my-own"}


def test_a_metric_that_a_task_does_not_have_is_told_with_the_nearest() -> None:
    assert wrong_metric("val/f1", ["f1", "loss"]) == ""
    assert wrong_metric("val/loss", ["f1", "loss"]) == ""
    assert wrong_metric("steps_trained", ["f1"]) == ""
    assert wrong_metric("train/loss", ["f1", "loss"]) == ""
    assert wrong_metric("train/accuracy", ["f1", "loss"]) != ""
    assert "did you mean 'val/f1'" in wrong_metric("val/f2", ["f1", "loss"])
    assert "did you mean" in wrong_metric("val/acuracy", ["accuracy", "loss"])
    assert wrong_metric("val/accuracy", ["f1", "loss"]) != ""
    assert not any(name.startswith("test/") for name in searchable())


def test_the_leading_metric_is_the_accuracy_else_a_tasks_own_else_the_loss() -> None:
    assert lead({"val/loss": 1.0, "val/r2": 0.5, "val/accuracy": 0.5}) == "val/accuracy"
    assert lead({"sparsity": 0.5, "val/loss": 1.0, "val/r2": 0.5}) == "val/r2"
    assert lead({"val/loss": 1.0, "sparsity": 0.5}) == "val/loss"
    assert lead({}) == "val/accuracy"
    assert quality([("minimize", "steps_trained"), ("minimize", "val/rmse")]) == ("minimize", "val/rmse")
    assert quality([("minimize", "steps_trained")]) == ("maximize", "val/accuracy")


def search(*constraints: str, objectives: list[str] | None = None) -> dict[str, Any]:
    return {"objectives": objectives or [f"maximize {LEADING}", "maximize sparsity"], "constraints": list(constraints)}


@pytest.mark.parametrize(
    ("name", "best", "objective", "constraint"),
    [
        ("f1", "maximize", "maximize val/f1", "val/f1 >= dense - 0.01"),
        ("rmse", "minimize", "minimize val/rmse", "val/rmse <= 1.01 * dense"),
        ("psnr", "maximize", "maximize val/psnr", "val/psnr >= 0.99 * dense"),
    ],
)
def test_the_first_metric_of_a_task_takes_the_leading_place_its_way(
    name: str, best: str, objective: str, constraint: str
) -> None:
    made = resolved(search(f"{LEADING} >= dense - 1%", "sparsity >= 0.5"), [name, "loss"], {name: best})
    assert made["objectives"] == [objective, "maximize sparsity"]
    assert made["constraints"] == [constraint, "sparsity >= 0.5"]


def test_what_somebody_wrote_stays_and_what_nobody_wrote_fits_the_task() -> None:
    written = search("val/loss <= 2", objectives=["minimize val/loss"])
    assert resolved(written, ["f1", "loss"], {"f1": "maximize"}) == written
    made = resolved(search(objectives=list(DEFAULT_OBJECTIVES)), ["rmse", "loss"], {"rmse": "minimize"})
    assert made["objectives"][0] == "minimize val/rmse"
    kept = resolved(search(objectives=list(DEFAULT_OBJECTIVES)), ["accuracy", "loss"], {"accuracy": "maximize"})
    assert kept["objectives"] == list(DEFAULT_OBJECTIVES)
    only = resolved(search(), ["loss"], {})
    assert only["objectives"][0] == "minimize val/loss"
