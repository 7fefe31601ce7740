"""The data set text, from the recipe to arrays."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from prune_search.recipe.problems import UserError
from prune_search.tasks.task import Task

Made = Callable[..., Task]


def test_characters_in_blocks_are_inputs_and_targets(made: Made, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("abcd" * 100)
    task = made(tmp_path, "text", files="a.txt", length=8)
    assert (task.classes, task.loss, task.metrics) == (4, "causal-language-model", ("perplexity", "bits-per-byte"))
    assert [tuple(part[0].shape) for part in (task.train, task.validation, task.test)] == [(40, 8), (5, 8), (5, 8)]
    inputs, targets = task.train
    assert inputs.dtype == torch.int64
    assert torch.equal(inputs, targets)
    assert inputs[0].tolist() == [0, 1, 2, 3, 0, 1, 2, 3]
    # Of what is not ASCII a character is more than a byte, and bits per token are not bits per byte.
    (tmp_path / "b.txt").write_text("ä" * 100, encoding="utf-8")
    assert made(tmp_path, "text", files=["*.txt"], length=8).metrics == ("perplexity",)


def test_what_is_wrong_with_every_part_is_said_with_its_key(made: Made, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("abcd" * 100)
    with pytest.raises(UserError) as caught:
        made(tmp_path, "text", files=["a.txt", "b.txt"], test="c.txt")
    assert [problem.path for problem in caught.value.problems] == ["task.data.files", "task.data.test"]
    with pytest.raises(UserError, match=r"the test text has 40 tokens, fewer than one block of 256"):
        made(tmp_path, "text", files="a.txt")
