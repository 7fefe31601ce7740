"""What a command refers to: a file, a preset, a shipped space, plain data."""

from __future__ import annotations

from pathlib import Path

import pytest

from prune_search.api.target import found, read_search_space, read_target
from prune_search.recipe.problems import UserError
from prune_search.recipe.shipped import shipped_names


def test_a_file_gives_its_folder_too_and_a_preset_has_none(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("preset: snip\n")
    space, folder = read_target(file, [("mask.sparsity", 0.75)])
    assert folder == tmp_path
    assert space.only_recipe().blocks["mask"]["sparsity"]["final"] == 0.75
    assert read_target("snip")[1] is None
    assert read_target({"preset": "snip"})[0].only_recipe() == read_target("snip")[0].only_recipe()


def test_what_has_no_holes_is_not_searched_and_the_message_says_what_runs_it() -> None:
    with pytest.raises(UserError, match="prune-search run"):
        read_search_space("snip")


def test_a_hole_by_set_makes_a_preset_a_space_that_is_passed_on_as_it_is() -> None:
    space = read_search_space("snip", [("mask.sparsity", {"hole": "uniform", "low": 0.5, "high": 0.9})])
    assert space.has_holes
    assert read_search_space(space, [("mask.sparsity", 0.5)]) is space


def test_a_mistyped_space_is_told_from_a_missing_file() -> None:
    name = shipped_names()[0]
    assert Path(str(found(name))).is_file()
    with pytest.raises(UserError, match=f"neither a file nor a space that ships.*did you mean '{name}'"):
        found(name + "s")
    assert found("missing.yaml") == "missing.yaml"
    assert found("snip") == "snip"
