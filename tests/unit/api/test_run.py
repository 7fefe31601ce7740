"""Running one recipe from a notebook: what it returns, what it writes, and what it compares."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from prune_search.api.run import preset_text, run, verify
from prune_search.api.where import Where
from prune_search.recipe import strict_yaml
from prune_search.recipe.axes import PRESETS
from prune_search.recipe.problems import UserError
from prune_search.recipe.recipe import Recipe
from prune_search.storage.inventory import take_inventory

SHORT: dict[str, Any] = {"train.steps": "4it", "train.batch": 32, "task.model": "mlp"}


def test_a_run_stores_its_states_and_takes_them_up_again(tmp_path: Path) -> None:
    where = Where(storage=tmp_path)
    first, again = (run("snip", set=SHORT, where=where) for _ in range(2))
    assert (first.preset, first.steps[:2], again.steps[:2]) == ("snip", (4, 0), (0, 4))
    assert first.weights_sha256 == again.weights_sha256
    kept = take_inventory(tmp_path).states.keys()
    assert kept
    fresh = run("snip", set=SHORT, where=where, fresh=True)
    assert fresh.steps[:2] == (4, 0)
    assert take_inventory(tmp_path).states.keys() == kept


def test_what_is_wrong_is_said_of_the_file_and_before_anything_is_trained(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("preset: snip\ntask: {data: mnist}\ntrain: {steps: 2it}\n")
    where = Where(storage=tmp_path / "store", data_root=tmp_path)
    with pytest.raises(UserError, match=r"mine\.yaml: task\.data: .*mnist"):
        run(file, where=where)
    (tmp_path / "in the way").touch()
    with pytest.raises(UserError, match="--out"):
        run("snip", set=SHORT, where=where, out=tmp_path / "in the way")
    assert not take_inventory(tmp_path / "store").states


def test_a_folder_is_verified_against_its_files_and_a_recipe_against_itself(tmp_path: Path) -> None:
    where = Where(storage=tmp_path / "store")
    result = run("snip", set=SHORT, where=where, out=tmp_path / "ticket")
    verified = verify(tmp_path / "ticket", where=where)
    assert (verified.verdict, verified.result.steps[1]) == ("exact", 0)
    assert verified.environment == result.environment
    assert verify(tmp_path / "ticket", set={"task.seed": 9}, where=where).verdict == "different"
    assert verify("snip", set=SHORT, where=where).verdict == "exact"


def test_the_text_of_a_preset_reads_as_the_preset() -> None:
    raw = strict_yaml.load(preset_text("lottery-ticket"))
    assert Recipe.read(raw).canonical == Recipe.read(PRESETS["lottery-ticket"].make()).canonical
    with pytest.raises(UserError, match="did you mean 'lottery-ticket'"):
        preset_text("lottery-tickets")
