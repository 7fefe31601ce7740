"""Folders of images: what is found, what is held out, what is wrong."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from prune_search.recipe.problems import UserError
from prune_search.tasks.kinds import images
from prune_search.tasks.kinds.look import Look

Write = Callable[..., Path]


def test_the_parts_of_a_folder_are_found_under_each_of_their_names(pictures: Write) -> None:
    for name, parts in (("one", ("train", "val")), ("two", ("train", "valid", "test")), ("three", ("",))):
        root = pictures(name, 2, parts)
        found, classes = images.scan(root / name)
        assert classes == ("cat", "dog", "eel")
        assert list(found) == [
            "train",
            *("validation" for part in parts if "val" in part),
            *("test" for p in parts if p == "test"),
        ]
        assert found["train"].labels.tolist() == [0, 0, 1, 1, 2, 2]
        assert found["train"].names[2].endswith("dog/00.png")


def test_what_is_missing_is_held_out_stratified_and_always_the_same(pictures: Write) -> None:
    found, _ = images.scan(pictures() / "pets")
    parts, again = images.split(found, 0.2), images.split(found, 0.2)
    assert {part: len(held) for part, held in parts.items()} == {"train": 18, "validation": 6, "test": 6}
    assert [held.names for held in parts.values()] == [held.names for held in again.values()]
    assert len({name for held in parts.values() for name in held.names}) == 30
    assert all(torch.bincount(held.labels).tolist() == [len(held) // 3] * 3 for held in parts.values())
    # With a folder for validation or for the test, no test part is taken from what is trained on.
    assert set(images.split({"train": found["train"], "validation": found["train"]}, 0.2)) == {"train", "validation"}
    assert set(images.split({"train": found["train"], "test": found["train"]}, 0.2)) == {"train", "validation", "test"}
    with pytest.raises(
        UserError, match=r"task.data.split: 0.01 of 30 images cannot be held out for test and validation"
    ):
        images.split(found, 0.01)


def test_everything_that_is_wrong_with_a_folder_is_said_at_once(pictures: Write) -> None:
    root = pictures("pets", 2, ("train", "val"))
    shutil.rmtree(root / "pets/train/eel")
    (root / "pets/train/eel").mkdir()
    (root / "pets/val/cat").rename(root / "pets/val/cats")
    with pytest.raises(UserError) as caught:
        images.scan(root / "pets")
    assert [problem.message.replace(str(root), "") for problem in caught.value.problems] == [
        "/pets/train/eel has no images",
        "/pets/val/cats: train has no class 'cats' (did you mean 'cat'?)",
    ]
    for place, message in (
        ("pets/train/dog", "needs a folder for each of two or more classes .it has none"),
        ("pets/val/dog/00.png", "is a file, not a folder"),
    ):
        with pytest.raises(UserError, match=message):
            images.scan(root / place)
    shutil.rmtree(root / "pets/train")
    with pytest.raises(UserError, match=r"has val but no train"):
        images.scan(root / "pets")


def test_files_that_are_no_images_are_left_out_and_said(pictures: Write, caplog: pytest.LogCaptureFixture) -> None:
    root = pictures("pets", 2)
    (root / "pets/cat/notes.txt").write_text("x")
    (root / "pets/README.md").write_text("x")
    (root / "pets/cat/.DS_Store").write_text("x")
    with caplog.at_level(logging.WARNING, "prune_search"):
        found, _ = images.scan(root / "pets")
    assert len(found["train"]) == 6
    (message,) = caplog.messages
    assert "2 files do not have the name of an image and are left out: README.md, cat/notes.txt" in message


def test_damaged_images_are_all_named_before_training_and_when_they_are_read(pictures: Write) -> None:
    root = pictures("pets", 3)
    (root / "pets/cat/00.png").write_bytes(b"no image")
    cut = root / "pets/dog/01.png"
    cut.write_bytes(cut.read_bytes()[:200])
    found, _ = images.scan(root / "pets")
    with pytest.raises(UserError) as caught:
        images.check_decoding(root / "pets", found["train"].names, 3, "a digest")
    messages = [str(problem) for problem in caught.value.problems]
    assert len(messages) == 2
    assert all("task.data.folder: " in message and "cannot be decoded" in message for message in messages)
    assert "cat/00.png" in messages[0]
    assert "dog/01.png" in messages[1]
    sets = images.files(root / "pets", found, Look(8, 8))
    with pytest.raises(UserError, match=r"cat/00.png cannot be decoded"):
        sets["train"][0]
