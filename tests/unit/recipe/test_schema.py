"""Schema 1: short forms become one canonical form, defaults are written out, and every error is named at its key."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from prune_search.recipe.reading import BAD, Reading
from prune_search.recipe.registry import Field
from prune_search.recipe.schema import (
    BLOCKS,
    TASK,
    GranularityField,
    ScoreField,
    SparsityField,
    is_user_code,
    read_blocks,
)

WRITTEN: dict[str, Any] = {
    "mask": {"at": "0it", "criterion": "snip", "sparsity": 0.9},
    "weights": {"at": "0it"},
    "retrain": {"until": "end"},
}


def read(field: Field, raw: Any) -> tuple[Any, list[str]]:
    reading = Reading()
    value = field.read(raw, "a", reading)
    return value, [str(problem) for problem in reading.problems]


def blocks(raw: Mapping[str, object]) -> tuple[dict[str, Any], list[str]]:
    reading = Reading()
    return read_blocks(raw, reading), [problem.path for problem in reading.problems]


def test_what_is_not_written_has_its_default_and_a_later_key_is_left_out() -> None:
    found, problems = blocks(WRITTEN)
    assert problems == []
    assert tuple(found) == BLOCKS
    assert (found["task"]["seed"], found["rounds"], found["train"]["batch"]) == (0, 1, 128)
    assert found["mask"]["sparsity"] == {"final": 0.9}
    assert "rounding" not in found["mask"]
    named = blocks({**WRITTEN, "mask": {**WRITTEN["mask"], "rounding": "floor-keep"}})[0]
    assert named["mask"]["rounding"] == "floor-keep"


@pytest.mark.parametrize(
    ("weights", "clock"), [("0it", "0it"), ("2ep", "2ep"), ("end", {"hold": "final"}), ("prepared", {"hold": "final"})]
)
def test_the_clock_of_a_retraining_follows_the_weights(weights: str, clock: object) -> None:
    assert blocks({**WRITTEN, "weights": {"at": weights}})[0]["retrain"]["clock"] == clock


def test_an_optimizer_in_part_is_merged_over_train_s() -> None:
    train = {"optimizer": {"lr": 0.5, "momentum": 0.1}}
    retrain = {"until": "end", "optimizer": {"lr": 0.01}}
    found, problems = blocks({**WRITTEN, "train": train, "retrain": retrain})
    assert problems == []
    written = found["retrain"]["optimizer"]
    assert (written["name"], written["lr"], written["momentum"]) == ("sgd", 0.01, 0.1)


def test_every_missing_block_and_wrong_key_is_told_at_once() -> None:
    assert blocks({"task": {"sed": 1}, "rounds": 0})[1] == ["task.sed", "mask", "weights", "retrain", "rounds"]


@pytest.mark.parametrize(
    ("raw", "value"),
    [
        *[(0.5, {"final": 0.5}), ({"per_round": 0.2}, {"per_round": 0.2}), ("learned", "learned")],
        *[({"layers": 3}, {"layers": 3}), ({"by": "scope"}, {"by": "scope"})],
    ],
)
def test_a_sparsity_has_one_of_its_forms(raw: object, value: object) -> None:
    assert read(SparsityField(), raw) == (value, [])


def test_other_forms_of_a_sparsity_are_refused_with_what_is_allowed() -> None:
    assert read(SparsityField(), {"final": 0.5, "per_round": 0.2})[1] == [
        "a: must have exactly one of final, per_round, by, layers, budget (got {'final': 0.5, 'per_round': 0.2})"
    ]
    value, (message,) = read(SparsityField(), {"finale": 0.5})
    assert value is BAD
    assert message.endswith("(did you mean 'final'?)")


def test_short_forms_and_choices_of_the_mask() -> None:
    assert read(GranularityField(), "2:4") == read(GranularityField(), {"name": "n-of-m", "n": 2, "m": 4})
    assert read(ScoreField(), {})[0]["batches"] == 1
    assert "batches" not in read(ScoreField(), {"per_class": 10})[0]
    assert read(ScoreField(), {"per_class": 10, "batches": 2})[1] == [
        "a.per_class: cannot be combined with batches; choose one"
    ]


def test_a_user_s_own_code_is_named_by_module_and_factory() -> None:
    model = TASK["model"].field
    assert read(model, "own.nets:make") == ("own.nets:make", [])
    assert is_user_code("own.nets:make")
    assert not is_user_code("mlp")
    for wrong in ("own nets:make", "a:b:c", "own.nets:", "a:" + "b" * 400):
        assert read(model, wrong)[0] is BAD
