"""The data set table, from the recipe to arrays."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from prune_search.recipe.problems import UserError
from prune_search.tasks.task import Task

Made = Callable[..., Task]


def test_classes_and_numbers_have_their_losses_and_metrics(made: Made, tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("a,b,y\n" + "".join(f"{n},{n % 3},{'pqr'[n % 3]}\n" for n in range(30)))
    task = made(tmp_path, "table", file="t.csv", target="y")
    assert (task.classes, task.loss, task.metrics) == (3, "cross-entropy", ("accuracy",))
    assert [tuple(part[0].shape) for part in (task.train, task.validation, task.test)] == [(24, 2), (3, 2), (3, 2)]
    task = made(tmp_path, "table", file="t.csv", target="a", task="regression", test=str(tmp_path / "t.csv"))
    assert (task.classes, task.loss, task.metrics) == (1, "mse", ("rmse", "r2"))
    assert [tuple(part[1].shape) for part in (task.train, task.validation, task.test)] == [(27, 1), (3, 1), (30, 1)]


def test_what_is_wrong_with_every_file_is_said_with_its_key(made: Made, tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("a,y\n1\n")
    with pytest.raises(UserError) as caught:
        made(tmp_path, "table", file="t.csv", target="y", test="T.csv")
    assert [problem.path for problem in caught.value.problems] == ["task.data.file", "task.data.test"]
    with pytest.raises(UserError, match=r"task.data.target: is missing"):
        made(tmp_path, "table", file="t.csv")
