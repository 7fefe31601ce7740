"""Recipes of schema 1 keep their canonical form, and with it their keys, for ever.

A failure here means that the code is wrong, or that it needs a new schema number: see ``add_recipes.py``, which writes
the files of new recipes and never changes an old one.
"""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from prune_search.recipe import axes
from prune_search.recipe.problems import UserError
from prune_search.recipe.recipe import Recipe, canonical_json, digest_of
from prune_search.recipe.space import find, read_space
from prune_search.recipe.strict_yaml import dump, load

FOLDER = Path(__file__).parent / "schema_1"
GOLDEN: dict[str, Any] = json.loads((FOLDER / "canonical.json").read_text("utf-8"))
FILES = sorted(path.stem for path in FOLDER.glob("*.yaml"))


def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("add_recipes", Path(__file__).parent / "add_recipes.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_file_has_its_canonical_form_and_every_preset_its_file() -> None:
    assert sorted(GOLDEN) == FILES
    assert set(axes.PRESETS) <= set(GOLDEN)


@pytest.mark.parametrize("name", FILES)
def test_a_recipe_of_schema_1_has_the_canonical_form_that_it_always_had(name: str) -> None:
    raw, source = find(str(FOLDER / f"{name}.yaml"))
    canonical = read_space(raw, source).only_recipe().canonical
    # As text, so that 1 and 1.0 differ.
    assert canonical_json(canonical) == canonical_json(GOLDEN[name]["canonical"])
    assert digest_of(canonical) == GOLDEN[name]["sha256"]


@pytest.mark.parametrize("name", FILES)
def test_a_canonical_form_of_schema_1_is_read_back_as_it_is(name: str) -> None:
    exported = load(dump(GOLDEN[name]["canonical"]), mapping=True)
    assert digest_of(Recipe.read(exported).canonical) == GOLDEN[name]["sha256"]


def test_a_recipe_of_a_newer_schema_is_refused_in_one_line_that_says_to_upgrade(tmp_path: Path) -> None:
    file = tmp_path / "newer.yaml"
    file.write_text("schema: 2\nmask: {at: tomorrow, by: magic}\nbrand-new: [1, 2]\npreset: not-yet-known\n")
    raw, source = find(str(file))
    with pytest.raises(UserError) as caught:
        read_space(raw, source)
    said = f"{file}: schema: 2 was written by a newer prune-search; this one reads up to 1: upgrade prune-search"
    assert str(caught.value) == said
    with pytest.raises(UserError, match=r"^schema: 2 was written by a newer prune-search"):
        Recipe.read(raw)


def test_the_script_adds_what_is_new_and_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    module = script()
    monkeypatch.setattr(module, "FOLDER", tmp_path)
    monkeypatch.setattr(module, "CANONICAL", tmp_path / "canonical.json")
    (tmp_path / "one.yaml").write_text("preset: snip\n")
    assert module.main() == 0
    first = (tmp_path / "canonical.json").read_text()
    (tmp_path / "two.yaml").write_text("preset: force\n")
    assert module.main() == 0
    assert sorted(module.golden()) == ["one", "two"]
    (tmp_path / "one.yaml").write_text("preset: dense\n")
    before = (tmp_path / "canonical.json").read_text()
    assert module.main() == 1
    assert (tmp_path / "canonical.json").read_text() == before != first
    said = capsys.readouterr().out.splitlines()
    assert said == ["added: one", "added: two", "changed or gone, nothing is written: one"]
