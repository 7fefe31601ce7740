"""Which rows are held out for parts that have no data of their own."""

from __future__ import annotations

import pytest
import torch

from prune_search.recipe.problems import UserError
from prune_search.tasks.kinds.parts import held_out, missing_parts


@pytest.mark.parametrize(
    ("present", "missing"),
    [
        (["train"], ["test", "validation"]),
        (["train", "test"], ["validation"]),
        (["train", "validation"], []),
        (["train", "validation", "test"], []),
    ],
)
def test_a_test_part_is_held_out_only_where_there_is_one_set(present: list[str], missing: list[str]) -> None:
    assert missing_parts(present) == missing


def test_each_part_gets_its_share_of_every_class_and_every_row_is_in_one_part() -> None:
    labels = torch.tensor([0] * 60 + [1] * 40)
    rows = held_out(labels, ["test", "validation"], 0.1, "rows")
    assert {part: labels[mine].bincount().tolist() for part, mine in rows.items()} == {
        "train": [48, 32],
        "test": [6, 4],
        "validation": [6, 4],
    }
    assert sorted(torch.cat(list(rows.values())).tolist()) == list(range(100))


def test_nothing_is_held_out_where_nothing_is_missing() -> None:
    assert held_out(torch.zeros(3, dtype=torch.int64), [], 0.1, "rows")["train"].tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    ("parts", "share", "told"),
    [
        (["validation"], 0.01, "0.01 of 20 images cannot be held out for validation$"),
        (["test", "validation"], 0.5, "0.5 of 20 images cannot be held out for test and validation each"),
    ],
)
def test_too_few_rows_are_told(parts: list[str], share: float, told: str) -> None:
    with pytest.raises(UserError, match=f"task.data.split: {told}"):
        held_out(torch.zeros(20, dtype=torch.int64), parts, share, "images")
