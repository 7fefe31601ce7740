"""Every value of every preset is that of the table `paper_values.csv`, which says where it is from.

A value without a source in a paper or in released code says ``this package``.
"""

from __future__ import annotations

import csv
import json
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from prune_search.recipe import axes
from prune_search.recipe.clock import resolve
from prune_search.recipe.recipe import Recipe
from prune_search.recipe.space import known_epoch

with (Path(__file__).parent / "paper_values.csv").open(encoding="utf-8", newline="") as table:
    ROWS = list(csv.DictReader(table))
# A paper by its number on arXiv, or by its year; a file of a repository; or nobody else's.
SOURCE = re.compile(r"\d{4}\.\d{5}|(?:19|20)\d\d\b|[\w.-]+/[\w.-]+, |this package")


def leaves(node: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted path and value of everything that is written in a preset."""
    pairs = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    if not pairs:
        yield path, node
    for key, value in pairs:
        yield from leaves(value, f"{path}.{key}".lstrip("."))


def value_of(text: str) -> Any:
    """A number or truth value as JSON has it, or a word."""
    try:
        return json.loads(text)
    except ValueError:
        return text


def test_the_table_has_every_value_of_every_preset_once_and_no_other() -> None:
    written = [(name, path) for name, entry in axes.PRESETS.items() for path, _ in leaves(entry.make())]
    told = Counter((row["preset"], row["key"]) for row in ROWS)
    assert told == Counter(written)


@pytest.mark.parametrize("name", axes.PRESETS)
def test_a_preset_has_the_values_of_its_paper(name: str) -> None:
    values = {row["key"]: value_of(row["value"]) for row in ROWS if row["preset"] == name}
    written = dict(leaves(axes.PRESETS[name].make()))
    assert {key: (type(value), value) for key, value in written.items()} == {
        key: (type(value), value) for key, value in values.items()
    }


def test_every_value_has_a_source() -> None:
    assert [row for row in ROWS if not SOURCE.search(row["source"])] == []


@pytest.mark.parametrize("name", axes.PRESETS)
def test_a_preset_fits_the_default_training_as_it_stands(name: str) -> None:
    """Its places are on the clock, and a mask that moves does so several times."""
    recipe = Recipe.read(axes.PRESETS[name].make())
    epoch = known_epoch(recipe)
    assert epoch is not None
    line = resolve(recipe, epoch)
    retrain = recipe.retrain
    if retrain is None or retrain.dynamics is None or "every" not in retrain.dynamics.options:
        return
    options = retrain.dynamics.options
    from prune_search.recipe.step import Step

    every, until = (Step.parse(options[key]).resolve(line.retrain_steps, epoch) for key in ("every", "until"))
    assert until // every >= 5
