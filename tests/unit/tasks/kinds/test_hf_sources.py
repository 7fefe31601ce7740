"""Data sets of Hugging Face's `datasets`: loaded from folders, and what their parts are."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from prune_search.recipe.problems import UserError
from prune_search.tasks.kinds.hf_sources import Wanted, load

pytestmark = pytest.mark.slow  # the library takes seconds to be imported
SPLITS: dict[str, str | None] = {"train": "train", "validation": None, "test": None}


def library(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    found = pytest.importorskip("datasets", reason="Hugging Face's data sets")
    monkeypatch.setattr(found.config, "HF_DATASETS_CACHE", folder / "cache")
    monkeypatch.setattr(found.config, "HF_HUB_OFFLINE", True)
    return found


def saved(datasets: Any, folder: Path, names: tuple[str, ...], rows: int = 4) -> None:
    one = datasets.Dataset.from_dict({"x": list(range(rows))})
    (datasets.DatasetDict(dict.fromkeys(names, one)) if names else one).save_to_disk(str(folder))


def test_saved_folders_have_their_parts_whole_or_as_streams(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    datasets = library(tmp_path, monkeypatch)
    saved(datasets, tmp_path / "three", ("train", "valid", "test"))
    saved(datasets, tmp_path / "one", ())
    assert {part: len(rows) for part, rows in load(Wanted("three", SPLITS), tmp_path).parts.items()} == {
        "train": 4,
        "validation": 4,
        "test": 4,
    }
    one = load(Wanted("one", SPLITS), tmp_path)
    assert (list(one.parts), list(one.features)) == (["train"], ["x"])
    chosen = load(Wanted("three", {"train": "test", "validation": "train", "test": None}, streaming=True), tmp_path)
    assert [row["x"] for row in chosen.parts["train"]] == [0, 1, 2, 3]


def test_a_folder_of_files_is_loaded_and_its_digest_is_that_of_the_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    library(tmp_path, monkeypatch)
    (tmp_path / "files").mkdir()
    (tmp_path / "files/train.csv").write_text("x,y\n1,a\n2,b\n")
    source = load(Wanted("files", SPLITS), tmp_path)
    assert [dict(row) for row in source.parts["train"]] == [{"x": 1, "y": "a"}, {"x": 2, "y": "b"}]
    shutil.copytree(tmp_path / "files", tmp_path / "copy")
    assert load(Wanted("copy", SPLITS), tmp_path).digest == source.digest
    (tmp_path / "copy/train.csv").write_text("x,y\n1,a\n2,c\n")
    assert load(Wanted("copy", SPLITS), tmp_path).digest != source.digest


def test_what_is_wrong_is_said_with_its_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    datasets = library(tmp_path, monkeypatch)
    saved(datasets, tmp_path / "one", ("train",))
    (tmp_path / "file.csv").write_text("x\n1\n")
    (tmp_path / "empty").mkdir()
    for wanted, message in (
        (Wanted("one", {**SPLITS, "train": "trian"}), "task.data.train: hf-dataset/one has no split 'trian' .did you"),
        (Wanted("one", SPLITS, streaming=True), "task.data.validation: is missing: no share of a stream can be held"),
        (Wanted("file.csv", SPLITS), "task.data: .*file.csv is a file: name the folder that it lies in"),
        (Wanted("empty", SPLITS), "task.data: hf-dataset/empty cannot be loaded: "),
        (Wanted("a/b/c", SPLITS), "task.data: there is no .*a/b/c"),
    ):
        with pytest.raises(UserError, match=message):
            load(wanted, tmp_path)
