"""`prune-search cp`: a preset becomes a file that is the preset, and no file is overwritten."""

from __future__ import annotations

from pathlib import Path

import pytest
from command_line import Typed

from prune_search.recipe import strict_yaml
from prune_search.recipe.axes import PRESETS
from prune_search.recipe.recipe import Recipe


@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_can_be_copied_and_the_copy_is_the_preset(preset: str, typed: Typed, tmp_path: Path) -> None:
    file = tmp_path / f"{preset}.yaml"
    assert typed("cp", preset, str(file)).code == 0
    assert Recipe.read(strict_yaml.load_file(file)).canonical == Recipe.read(PRESETS[preset].make()).canonical
    assert typed("cp", preset, str(file)).code == 2


def test_what_cannot_be_written_is_refused_with_the_file_and_the_reason(typed: Typed, tmp_path: Path) -> None:
    said = typed("cp", "snip", str(tmp_path / "no folder" / "mine.yaml"))
    assert (said.code, said.out) == (2, "")
    assert said.err == f"prune-search: {tmp_path}/no folder/mine.yaml: cannot be written: No such file or directory\n"
    said = typed("cp", "snipp", str(tmp_path / "mine.yaml"))
    assert (said.code, "did you mean 'snip'?" in said.err) == (2, True)
    assert list(tmp_path.iterdir()) == []


def test_the_copy_says_how_it_is_run_and_where_it_is_from(typed: Typed, tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    assert f"prune-search run {file}" in typed("cp", "snip", str(file)).out
    head = file.read_text().splitlines()[:3]
    assert head == [f"# {PRESETS['snip'].summary}", f"# {PRESETS['snip'].source}", "# prune-search run FILE"]
