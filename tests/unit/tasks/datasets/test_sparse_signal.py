"""Sparse signals in noise: the data model, its parts, and what is known of it before it is drawn."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from prune_search.recipe.axes import DATASETS
from prune_search.recipe.problems import UserError
from prune_search.recipe.recipe import Recipe
from prune_search.recipe.space import known_epoch
from prune_search.tasks.data import DataSet

ENTRY = DATASETS["sparse-signal"]


def drawn(**options: Any) -> DataSet:
    return ENTRY.build(DataSet, None, **{**{key: option.default for key, option in ENTRY.options.items()}, **options})


def test_one_coordinate_tells_the_class_and_the_rest_is_noise() -> None:
    data = drawn(dimension=50, classes=3, train=6, test=3000, signal=4.0, noise=0.5)
    inputs, labels = data.test.inputs, data.test.labels
    assert torch.bincount(labels).tolist() == [1000, 1000, 1000]
    signal = torch.zeros(3, 50)
    signal[torch.arange(3), torch.arange(3)] = 4.0
    noise = inputs - signal[labels]
    # 3,000 draws a coordinate: the mean is within 0.5 / sqrt(3000) = 0.009, and five of that bound 50 coordinates.
    assert float(noise.mean(dim=0).abs().max()) < 0.046
    assert float(noise.std()) == pytest.approx(0.5, rel=0.01)
    # Coordinates do not depend on each other.
    correlation = torch.corrcoef(noise.T) - torch.eye(50)
    assert float(correlation.abs().max()) < 0.1


def test_a_part_depends_on_its_own_size_and_the_seed_alone() -> None:
    one, other = drawn(dimension=20, train=8), drawn(dimension=20, train=8, validation=30, test=40)
    assert torch.equal(one.train.inputs, other.train.inputs)
    assert drawn(dimension=20).digest == drawn(dimension=20).digest
    assert drawn(dimension=20).digest != drawn(dimension=20, seed=1).digest
    parts = [split.inputs[:8] for split in drawn(dimension=20, train=8).splits.values()]
    parts += [split.inputs[:8] for split in drawn(dimension=20, train=8, seed=1).splits.values()]
    assert len({tuple(part.flatten().tolist()) for part in parts}) == 6


def test_what_is_too_small_for_the_classes_is_all_said_at_once() -> None:
    with pytest.raises(UserError) as caught:
        drawn(dimension=3, classes=4, train=2, validation=4, test=1)
    assert [problem.path for problem in caught.value.problems] == [
        f"task.data.{k}" for k in ("dimension", "train", "test")
    ]
    assert "at least the 4 classes" in str(caught.value)


def test_its_size_is_known_before_it_is_drawn() -> None:
    data = {"name": "sparse-signal", "train": 60, "dimension": 30, "classes": 5}
    recipe = Recipe.read({**DENSE, "task": {"data": data, "model": "two-layer"}, "train": {"batch": 20}})
    assert known_epoch(recipe) == 3
    assert (recipe.task.source.classes, recipe.task.source.shape) == (5, (30,))
    assert Recipe.read({**DENSE, "task": {"data": "digits"}}).task.source.train_examples == 1257


DENSE = {"mask": {"at": "end", "criterion": "all", "sparsity": 0}, "weights": {"at": "end"}, "retrain": "none"}
