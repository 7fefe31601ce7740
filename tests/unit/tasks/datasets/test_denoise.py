"""Where the pictures of denoise and inpaint come from, and what is wrong with them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy
import pytest
import torch
from PIL import Image

from prune_search.recipe.problems import UserError
from prune_search.tasks.shapes import IGNORED
from prune_search.tasks.task import Task
from prune_search.tasks.task_data import read_task

Made = Callable[..., Task]


def digest(task: Task) -> str:
    data, wrong = read_task("x", task)
    assert data is not None, wrong
    return data.digest


def test_scikit_learns_pictures_need_no_folder(made: Made) -> None:
    china, flower = (made(None, "denoise", picture=name, size=16).test[1] for name in ("china", "flower"))
    assert china.shape == flower.shape == (1, 3, 16, 16)
    assert 0.0 <= float(china.min()) < float(china.max()) <= 1.0
    assert not torch.equal(china, flower)
    task = made(None, "inpaint", size=16)
    assert sum(int((part[1][0, 0] != IGNORED).sum()) for part in (task.train, task.validation)) == 128


def test_a_file_and_a_picture_of_a_folder_are_the_same_wherever_they_lie(made: Made, tmp_path: Path) -> None:
    draw = numpy.random.default_rng(0)
    (tmp_path / "mine").mkdir()
    for name in ("b.png", "a.png"):
        Image.fromarray(draw.integers(0, 256, (20, 30, 3), dtype=numpy.uint8)).save(tmp_path / "mine" / name)
    (tmp_path / "mine" / "notes.txt").write_text("no picture")
    of_folder = made(tmp_path, "denoise", picture="mine", index=1, size=8)
    of_file = made(None, "denoise", picture=str(tmp_path / "mine" / "b.png"), size=8)
    assert digest(of_folder) == digest(of_file)
    assert digest(made(tmp_path, "denoise", picture="mine", size=8)) != digest(of_file)
    # Noise or holes that were added here were added to a picture that is taken to be clean.
    assert of_file.test is not None
    assert made(tmp_path, "denoise", picture="mine", size=8, sigma=0).test is None
    assert made(tmp_path, "inpaint", picture="mine", size=8).test is not None
    assert made(None, "denoise", size=8, sigma=0).test is not None


def test_what_is_wrong_with_a_picture_names_the_key(made: Made, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "torn.png").write_bytes(b"\x89PNG and no more")
    for options, message in (
        ({"picture": "torn.pgn"}, r"task.data.picture: there is no .*torn.pgn .did you mean 'torn.png'"),
        ({"picture": "torn.png"}, r"task.data.picture: .*torn.png cannot be decoded"),
        ({"picture": "torn.png", "index": 2}, r"task.data.index: is for folders, and .* is a file .got 2"),
        ({"picture": "flower", "index": 1}, r"task.data.index: is for folders, and flower is one picture"),
        ({"picture": "empty"}, r"task.data.picture: .*empty has no pictures"),
        ({"validate": "clena"}, r"task.data.validate: 'clena' is not one of .*did you mean 'clean'"),
    ):
        with pytest.raises(UserError, match=message):
            made(tmp_path, "denoise", **options)
    Image.new("RGB", (9, 9)).save(tmp_path / "empty" / "a.png")
    with pytest.raises(UserError, match=r"task.data.index: .*empty has 1 pictures, 0…0 .got 3.: a.png"):
        made(tmp_path, "denoise", picture="empty", index=3)
    with pytest.raises(UserError, match="is relative to a folder that is not given"):
        made(None, "denoise", picture="empty")
