"""A teacher from a folder: its weights enter the key, where it lies does not, and an export carries it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from prune_search.api.run import run, verify
from prune_search.recipe.problems import UserError
from prune_search.trial.teachers import TEACHER_RECIPE, read_teacher

TRAIN = {"steps": "6it", "batch": 50}


def taught(teacher: Path | str, **options: Any) -> dict[str, Any]:
    loss = {"name": "distillation", "teacher": str(teacher), **options}
    task = {"model": {"name": "mlp", "hidden": [4]}}
    return {"preset": "snip", "task": task, "train": TRAIN, "retrain": {"until": "end", "clock": "0it", "loss": loss}}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A larger network of another kind than the one that it teaches."""
    wide = {"preset": "dense", "task": {"model": {"name": "mlp", "hidden": [32]}}, "train": TRAIN}
    run(wide, out=tmp_path / "wide", fresh=True)
    return tmp_path / "wide"


def test_a_larger_network_teaches_and_goes_with_the_export(folder: Path, tmp_path: Path) -> None:
    result = run(taught(folder), out=tmp_path / "small", fresh=True)
    assert result.steps == (6, 0, 0)
    moved = tmp_path / "elsewhere"
    folder.rename(moved)
    again = run(taught(moved), fresh=True)
    assert (again.key, again.weights_sha256) == (result.key, result.weights_sha256)
    assert (tmp_path / "small" / TEACHER_RECIPE).is_file()
    moved.rename(tmp_path / "gone")
    assert verify(str(tmp_path / "small")).verdict == "exact"


def test_another_teacher_is_another_trial(folder: Path, tmp_path: Path) -> None:
    other = {"preset": "dense", "task": {"model": {"name": "mlp", "hidden": [32]}, "seed": 1}, "train": TRAIN}
    run(other, out=tmp_path / "other", fresh=True)
    one, two = (run(taught(teacher), fresh=True) for teacher in (folder, tmp_path / "other"))
    assert one.key != two.key
    assert one.weights_sha256 != two.weights_sha256


def test_folders_that_cannot_teach_are_refused_in_one_line(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"retrain.loss.teacher: .* it has no recipe.yaml"):
        run(taught(tmp_path / "empty"), fresh=True)
    with pytest.raises(UserError, match=r"retrain.loss.features: the inputs of the teacher's output layer are"):
        run(taught(folder, features="last"), fresh=True)
    weights = folder / "model.safetensors"
    weights.chmod(0o644)
    weights.write_bytes(weights.read_bytes()[:-8])
    with pytest.raises(UserError, match=r"retrain.loss.teacher: ") as error:
        read_teacher(str(folder), None, lambda recipe, tensors: pytest.fail("was built"))
    assert "\n" not in str(error.value)
