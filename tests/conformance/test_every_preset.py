"""Every preset is a whole recipe, is the paradigm that it is named after, and says whose it is."""

from __future__ import annotations

import copy
import json

import pytest

from prune_search.recipe.axes import PRESETS
from prune_search.recipe.paradigm import paradigm
from prune_search.recipe.recipe import Recipe
from prune_search.recipe.space import find, read_space


@pytest.mark.parametrize("name", PRESETS)
def test_it_reads_and_its_canonical_form_is_a_fixed_point(name: str) -> None:
    recipe = Recipe.read(PRESETS[name].make())
    blocks = {key: value for key, value in recipe.canonical.items() if key != "schema"}
    assert Recipe.read(copy.deepcopy(blocks)).canonical == recipe.canonical
    assert Recipe.read(recipe.canonical).canonical == recipe.canonical
    assert json.loads(json.dumps(blocks, allow_nan=False)) == blocks
    digests = {"network": "n", "data": "d"}
    assert Recipe.read(blocks).key(digests) == recipe.key(digests)


@pytest.mark.parametrize("name", PRESETS)
def test_its_paradigm_is_itself(name: str) -> None:
    assert paradigm(Recipe.read(PRESETS[name].make())) == name


@pytest.mark.parametrize("name", PRESETS)
def test_it_has_a_source_or_is_a_control(name: str) -> None:
    assert PRESETS[name].source != "" or PRESETS[name].summary.startswith("control")


@pytest.mark.parametrize("name", PRESETS)
def test_it_is_found_by_its_name_and_two_readings_share_nothing(name: str) -> None:
    # Long enough for every paper's places.
    space = read_space(*find(name), [("train.steps", "1000ep")])
    assert space.preset == name
    assert not space.has_holes
    blocks = PRESETS[name].make()
    blocks["train"] = {**blocks.get("train", {}), "steps": "1000ep"}
    assert space.only_recipe().canonical == Recipe.read(blocks).canonical
    first = PRESETS[name].make()
    first["mask"]["criterion"] = "changed"
    assert PRESETS[name].make()["mask"]["criterion"] != "changed"
