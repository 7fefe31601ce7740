"""Which recipes go with shards: every other one is refused in a sentence that names the key and the value."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from prune_search.recipe.problems import UserError
from prune_search.recipe.recipe import Recipe
from prune_search.recipe.sharding import sharding_problems
from prune_search.recipe.space import inspect, read_space

BATCHNORM: Mapping[str, Any] = {"model": "small-conv", "data": "digits"}


def problems(preset: str, **more: Any) -> list[str]:
    blocks: dict[str, Any] = {"preset": preset, **more}
    blocks.setdefault("mask", {"sparsity": 0.5})
    recipe: Recipe = read_space(blocks, "a test").only_recipe()
    return [str(problem) for problem in sharding_problems(recipe)]


PAPERS = (
    *("magnitude-after-training", "lottery-ticket", "late-rewinding", "weight-rewinding", "fine-tune", "random"),
    *(
        "learning-rate-rewinding",
        "snip",
        "synflow",
        "iterative-snip",
        "force",
        "rigl",
        "set",
        "gradual-magnitude",
        "edge-popup",
    ),
)


@pytest.mark.parametrize("preset", PAPERS)
def test_these_papers_go_with_shards(preset: str) -> None:
    assert problems(preset, mask={"sparsity": 0.9}) == []


def test_the_controls_of_a_search_go_with_shards() -> None:
    assert problems("dense", mask={}) == []
    assert problems("snip", mask={"sparsity": 0.5, "control": "shuffle"}) == []


def test_growing_penalties_on_single_weights_go_with_shards() -> None:
    for preset in ("greg-1", "greg-2"):
        assert problems(preset, mask={"sparsity": 0.5, "granularity": "weight"}) == []
        (wrong,) = problems(preset)
        assert wrong.startswith("mask.granularity: filter does not go with search.sharded: true: its units span rows")


@pytest.mark.parametrize(
    ("preset", "more", "start"),
    [
        ("grasp", {}, "mask.criterion: grasp"),
        ("gumbel-mask", {}, "mask.criterion: gumbel"),
        ("edge-popup", {"mask": {"sparsity": 0.5, "granularity": "2:4"}}, "mask.granularity: n-of-m"),
        ("deepr", {}, "retrain.dynamics: deepr"),
        ("snip", {"mask": {"sparsity": 0.5, "score": {"normalization": "l2"}}}, "mask.score.normalization: l2"),
        ("snip", {"mask": {"sparsity": 0.5, "control": "invert"}}, "mask.control: invert"),
        ("snip", {"train": {"compile": True}}, "train.compile: true"),
        ("snip", {"train": {"optimizer": {"name": "sghmc"}}}, "train.optimizer: sghmc"),
        ("snip", {"train": {"layer_decay": 0.5}}, "train.layer_decay: 0.5"),
        ("snip", {"task": BATCHNORM, "train": {"batchnorm_l1": 0.1}}, "train.batchnorm_l1: 0.1"),
        ("rigl", {"retrain": {"dynamics": {"name": "rigl", "init": "normal"}}}, "retrain.dynamics.init: normal"),
        ("fine-tune", {"retrain": {"lora": {"rank": 4}}}, "retrain.lora: rank 4"),
        ("fine-tune", {"retrain": {"loss": "distillation"}}, "retrain.loss: distillation"),
    ],
)
def test_what_needs_whole_layers_is_refused(preset: str, more: Mapping[str, Any], start: str) -> None:
    found = problems(preset, **more)
    assert any(text.startswith(f"{start} does not go with search.sharded: true: ") for text in found), found


def test_a_space_is_checked_before_it_is_launched() -> None:
    search = {"workers_per_trial": 2, "sharded": True}
    with pytest.raises(UserError, match=r"mask\.criterion: wanda does not go with search\.sharded: true"):
        read_space({"preset": "wanda", "mask": {"sparsity": 0.5}, "search": search}, "a test")
    # Of several paradigms the others are left, and the region is told of.
    space, told = inspect(
        {"any": [{"preset": "wanda"}, {"preset": "rigl"}], "mask": {"sparsity": 0.5}, "search": search}, "a test"
    )
    assert space is not None
    assert [problem.form for problem in told] == [False]
    assert "wanda does not go with search.sharded" in told[0].message
