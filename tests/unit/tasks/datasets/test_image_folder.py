"""The data set image-folder, from the recipe to batches."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch.utils.data import DataLoader

from prune_search.recipe.problems import UserError
from prune_search.tasks.task import Task

Write = Callable[..., Path]
Made = Callable[..., Task]


def test_it_is_a_task_with_classes_parts_and_batches(pictures: Write, made: Made) -> None:
    task = made(pictures(), "image-folder", folder="pets", size=8, split=0.2)
    assert (task.classes, task.loss, task.model, task.workers) == (3, "cross-entropy", None, 2)
    assert [len(part) for part in (task.train, task.validation, task.test)] == [18, 6, 6]
    inputs, labels = next(iter(DataLoader(task.validation, 6)))
    assert (inputs.shape, inputs.dtype, labels.dtype) == ((6, 3, 8, 8), torch.float32, torch.int64)
    # One brightness per class: the examples are those of their labels.
    assert labels[inputs.mean(dim=(1, 2, 3)).argsort()].tolist() == [0, 0, 1, 1, 2, 2]
    grey = made(pictures("grey"), "image-folder", folder="grey", size=8, mean=0.5, std=0.5)
    assert grey.train[0][0].shape == (1, 8, 8)


@pytest.mark.slow
def test_workers_read_the_same_bits(pictures: Write, made: Made) -> None:
    task = made(pictures(), "image-folder", folder="pets", size=8)
    batches = [torch.cat([x for x, _ in DataLoader(task.train, 8, num_workers=workers)]) for workers in (0, 2)]
    assert torch.equal(*batches)


def test_the_digest_is_of_files_and_of_what_is_made_of_them(pictures: Write, made: Made, tmp_path: Path) -> None:
    root = pictures()
    digest = made(root, "image-folder", folder="pets", size=8).digest
    assert made(root, "image-folder", folder="pets", size=8, workers=0).digest == digest
    assert made(None, "image-folder", folder=str(root / "pets"), size=8).digest == digest
    for other in ({"size": 9}, {"size": 8, "augment": ["flip"]}, {"size": 8, "split": 0.2}, {"size": 8, "resize": 10}):
        assert made(root, "image-folder", folder="pets", **other).digest != digest
    (tmp_path / "pets/cat/00.png").rename(tmp_path / "pets/cat/99.png")
    assert made(root, "image-folder", folder="pets", size=8).digest != digest


def test_what_is_wrong_names_the_key(pictures: Write, made: Made) -> None:
    root = pictures()
    for options, message in (
        ({"folder": "pest"}, "task.data.folder: there is no .*pest .did you mean 'pets'"),
        ({"folder": "pets", "mean": 0.5}, "task.data.mean: mean and std need 3 figures each, or 1 .*got 1 and 3"),
        ({"folder": "pets", "size": 9, "resize": 8}, "task.data.resize: must be at least size, 9 .got 8"),
        ({"folder": "pets", "augment": ["flop"]}, "task.data.augment.0: 'flop' is not one of .*did you mean 'flip'"),
        ({}, "task.data.folder: is missing"),
    ):
        with pytest.raises(UserError, match=message):
            made(root, "image-folder", **options)
    with pytest.raises(UserError, match=r"'pets' is relative to a folder that is not given: set it with --data-root"):
        made(None, "image-folder", folder="pets")
