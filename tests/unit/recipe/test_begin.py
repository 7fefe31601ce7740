"""Recipes that are tried first: what they say of a space's holes, and everything that is wrong with them at once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from prune_search.recipe.begin import Beginning, beginnings, is_cold, told
from prune_search.recipe.problems import UserError
from prune_search.recipe.space import Space, read_space
from prune_search.recipe.strict_yaml import load

RATES = """\
preset: snip
train: {steps: 10ep, optimizer: {name: sgd, lr: {hole: loguniform, low: 0.01, high: 1.0}}}
mask: {sparsity: {hole: uniform, low: 0.5, high: 0.98}}
"""
PLACES = """\
preset: fine-tune
train: {steps: 10ep, batch: 128}
task: {data: mnist}
weights: {at: {hole: choice, of: [0it, 5%, end]}}
retrain: {steps: {hole: uniform, low: 1ep, high: 5ep}}
"""
OPTIONS = """\
any:
- {preset: snip, mask: {sparsity: {hole: choice, of: [0.8, 0.95]}}}
- {preset: lottery-ticket, rounds: {hole: int, low: 2, high: 5}}
- preset: gradual-magnitude
  retrain:
    until: end
    dynamics:
      hole: choice
      of: [{name: gradual, every: {hole: int, low: 1it, high: 9it}}, {name: rigl, every: 20it}]
"""


def space(text: str, *begin: Any) -> Space:
    return read_space({**load(text, mapping=True), "search": {"begin": list(begin)}}, "file")


def only(text: str, begin: Any) -> Beginning:
    (found,) = beginnings(space(text, begin).search)
    return found


def wrong(text: str, *begin: Any, **search: Any) -> list[str]:
    with pytest.raises(UserError) as caught:
        read_space({**load(text, mapping=True), "search": {"begin": list(begin), **search}}, "file")
    return [f"{problem.path}: {problem.message}" for problem in caught.value.problems]


def test_what_a_recipe_says_of_holes_is_taken_however_it_is_written() -> None:
    mine = {"mask": {"sparsity": {"final": 0.9}}, "train": {"optimizer": {"lr": 0.1}}}
    assert only(RATES, mine).values == {"mask.sparsity": 0.9, "train.optimizer.lr": 0.1}
    assert only(RATES, "snip").values == {"mask.sparsity": 0.95}
    assert only(PLACES, "fine-tune").values == {"weights.at": "end", "retrain.steps": 4.0}
    steps = only(PLACES, {"weights": {"at": "5%"}, "retrain": {"steps": "858it"}}).values
    assert steps == {"weights.at": "5%", "retrain.steps": 2.0}


def test_a_preset_begins_in_the_option_that_is_its_own() -> None:
    assert only(OPTIONS, "snip").values == {"any": "snip", "any[snip].mask.sparsity": "0.95"}
    late = only(OPTIONS, "lottery-ticket")
    assert (late.option, late.values) == ("lottery-ticket", {"any": "lottery-ticket"})
    assert late.left == ("rounds: 11 is not within 2 … 5",)
    assert told({"begin": [late.as_data()]}) == [
        "lottery-ticket is tried first, with some values left to the sampler: rounds: 11 is not within 2 … 5"
    ]


def test_holes_within_a_choice_are_filled_too() -> None:
    mine = {"preset": "gradual-magnitude", "retrain": {"dynamics": {"name": "gradual", "every": "3it"}}}
    place = "any[gradual-magnitude].retrain.dynamics"
    assert only(OPTIONS, mine).values == {"any": "gradual-magnitude", place: "gradual", f"{place}[gradual].every": 3}


def test_a_recipe_file_is_named_by_its_path(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("preset: snip\nmask: {sparsity: 0.7}\ntrain: {optimizer: {name: sgd, lr: 0.5}}\n")
    found = only(RATES, str(file))
    assert found.name == str(file)
    assert found.values == {"mask.sparsity": 0.7, "train.optimizer.lr": 0.5}


def test_what_search_json_holds_says_the_same_whatever_becomes_of_the_file(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("mask: {sparsity: 0.7}\n")
    stored = space(RATES, str(file), "snip").canonical()["search"]
    file.unlink()
    assert [one.values for one in beginnings(stored)] == [{"mask.sparsity": 0.7}, {"mask.sparsity": 0.95}]


def test_everything_that_is_wrong_is_said_at_once() -> None:
    found = wrong(RATES, "snipp", {"mask": {"sparsity": 0.99}}, {"mask": 3}, 7, {"foo": 1}, "dense", sampler="x")
    text = "\n".join(found)
    assert "search.sampler: 'x' is not one of" in text
    assert "search.begin[0]: snipp: is neither a file nor a preset (did you mean 'snip'?)" in text
    assert "search.begin[1]: mask.sparsity: 0.99 is not within 0.5 … 0.98" in text
    assert "search.begin[3]: must be a preset, a recipe file or a mapping of a recipe's blocks (got 7)" in text
    assert "search.begin[4]: foo: 'foo' is not one of" in text
    assert "search.begin[5]: sets no value that a hole of this space can take" in text
    assert wrong(RATES, "snip", "snip", trials=1) == ["search.begin: names 2 recipes, which are more than the 1 trials"]


def test_a_recipe_that_fits_hole_by_hole_and_not_together_is_refused() -> None:
    text = "preset: snip\ntrain: {steps: 2ep}\nweights: {at: {hole: choice, of: [0it, 9ep]}}"
    (problem,) = wrong(text, {"weights": {"at": "9ep"}})
    assert problem.startswith("search.begin[0]: recipe 1: weights.at")


def test_cold_is_a_word() -> None:
    found = read_space({**load(RATES, mapping=True), "search": {"begin": "cold"}}, "file")
    assert is_cold(found.search)
    assert beginnings(found.search) == []
    assert "begin" not in read_space(load(RATES, mapping=True), "file").search
