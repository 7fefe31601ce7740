"""The folder that a run leaves: what may be overwritten, and what is read of a folder that somebody has changed."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from prune_search.recipe import strict_yaml
from prune_search.recipe.problems import UserError
from prune_search.recipe.recipe import Recipe
from prune_search.storage.json_files import MAX_BYTES
from prune_search.trial.folder import (
    METRICS_FILE,
    check_out,
    read_metrics,
    read_recorded,
    recipe_text,
    write_folder,
)
from prune_search.trial.result import Result
from prune_search.trial.run import run_trial
from prune_search.trial.setup import TrialSetup

RAW = {
    "preset": "snip",
    "task": {"data": "digits", "model": {"name": "mlp", "hidden": [8]}},
    "train": {"steps": "2it", "batch": 32},
}


@pytest.fixture
def result(setup_of: Callable[[Mapping[str, Any]], TrialSetup]) -> Result:
    return run_trial(setup_of(RAW), None)


def test_a_folder_is_written_and_read_back(result: Result, tmp_path: Path) -> None:
    folder = tmp_path / "out"
    write_folder(result, folder)
    recorded = read_recorded(folder)
    assert recorded.as_data() == {"mask_sha256": result.masks.sha256, "weights_sha256": result.weights_sha256}
    assert recorded.environment == result.environment
    assert Recipe.read(strict_yaml.load(recipe_text(result))).canonical == result.recipe.canonical


def test_only_an_earlier_run_of_the_same_recipe_may_be_overwritten(result: Result, tmp_path: Path) -> None:
    folder = tmp_path / "out"
    check_out(folder, result.key)
    assert not folder.exists()
    write_folder(result, folder)
    check_out(folder, result.key)
    with pytest.raises(UserError, match="contains other files"):
        check_out(folder, "another key")
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="is a file, not a folder"):
        check_out(tmp_path / "file", result.key)
    with pytest.raises(UserError, match="cannot be used as a folder"):
        check_out(tmp_path / "file" / "below", result.key)


@pytest.mark.parametrize("text", ["", "[1]", "{", "[" * 100_000, f'{{"a": "{"x" * MAX_BYTES}"}}'])
def test_metrics_that_are_no_object_are_refused_in_one_line(text: str, tmp_path: Path) -> None:
    (tmp_path / METRICS_FILE).write_text(text)
    with pytest.raises(UserError, match=r"is missing or does not contain a JSON object$"):
        read_metrics(tmp_path)
    assert read_metrics(tmp_path / "nowhere", missing_ok=True) == {}


def test_each_claim_that_the_tensors_do_not_bear_out_is_named(result: Result, tmp_path: Path) -> None:
    folder = tmp_path / "out"
    write_folder(result, folder)
    metrics = json.loads((folder / METRICS_FILE).read_text())
    (folder / METRICS_FILE).write_text(json.dumps({**metrics, "mask_sha256": "0" * 64, "weights_sha256": 3}))
    with pytest.raises(UserError) as refused:
        read_recorded(folder)
    assert [problem.message.partition(" (")[2].split()[0] for problem in refused.value.problems] == [
        "mask_sha256",
        "weights_sha256",
    ]
