"""The paradigm is a function of the recipe: task, train, numbers and lengths do not count, everything else does."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from prune_search.recipe import axes
from prune_search.recipe.fields import Number, Value
from prune_search.recipe.merge import merge
from prune_search.recipe.paradigm import paradigm
from prune_search.recipe.recipe import Recipe
from prune_search.recipe.registry import Option


def named(preset: str, **blocks: Any) -> str:
    """The paradigm of a preset with blocks changed."""
    return paradigm(Recipe.read(merge(axes.PRESETS[preset].make(), blocks)))


@pytest.mark.parametrize(
    ("preset", "blocks"),
    [
        ("lottery-ticket", {"task": {"data": "fashion-mnist", "model": "lenet-300-100", "seed": 7}}),
        ("lottery-ticket", {"train": {"steps": "3ep", "batch": 7, "init": "xavier", "schedule": "cosine"}}),
        ("lottery-ticket", {"train": {"optimizer": "adam", "augment": "none", "precision": "bf16"}}),
        ("lottery-ticket", {"rounds": 2}),
        ("lottery-ticket", {"mask": {"sparsity": {"per_round": 0.5}}}),
        ("lottery-ticket", {"mask": {"sparsity": 0.9}}),
        ("lottery-ticket", {"weights": {"at": "0ep"}}),
        ("lottery-ticket", {"weights": {"at": "0%"}}),
        ("lottery-ticket", {"retrain": {"until": "10ep"}}),
        ("lottery-ticket", {"retrain": {"optimizer": {"lr": 0.5}}}),
        ("late-rewinding", {"weights": {"at": "1ep"}}),
        ("late-rewinding", {"weights": {"at": "end-1ep"}}),
        ("late-rewinding", {"weights": {"at": "37%"}}),
        ("snip", {"mask": {"sparsity": 0.5, "score": {"batches": 5}}}),
        ("snip", {"mask": {"score": {"per_class": 5}}}),
        ("force", {"mask": {"score": {"iterations": 2, "nested": False, "batches": 3}}}),
        ("magnitude-after-training", {"retrain": {"steps": "1it", "clock": {"hold": 0.5}}}),
        ("gradual-magnitude", {"retrain": {"dynamics": {"name": "gradual", "every": "1it", "until": "5ep"}}}),
        ("greg-1", {"weights": {"transform": [{"name": "growing-penalty", "step": 0.1, "optimizer": "adam"}]}}),
        ("greg-1", {"retrain": {"steps": "1ep", "schedule": "step"}}),
        ("fine-tune", {"retrain": {"steps": "9ep"}}),
        # What a preset was in version 0.1 is the same paradigm.
        ("gradual-magnitude", {"mask": {"scope": "global"}}),
        ("set", {"retrain": {"dynamics": "set"}}),
        ("greg-2", {"mask": {"prepare": "rising-penalty", "scope": "uniform", "rounding": "half-up"}}),
        ("snip", {"mask": {"rounding": "floor-keep"}}),
        ("thinet", {"weights": {"transform": ["least-squares-reconstruction"]}}),
    ],
)
def test_numbers_and_lengths_are_free(preset: str, blocks: dict[str, Any]) -> None:
    assert named(preset, **blocks) == preset


@pytest.mark.parametrize(
    ("preset", "blocks", "paradigm_name"),
    [
        # Places count as start, between or end.
        ("lottery-ticket", {"weights": {"at": "500it"}}, "late-rewinding"),
        ("late-rewinding", {"weights": {"at": "0it"}}, "lottery-ticket"),
        ("snip", {"mask": {"at": "1ep"}}, "custom 1ep→0it"),
        ("snip", {"weights": {"at": "1ep"}}, "custom 0it→1ep"),
        ("lottery-ticket", {"retrain": {"until": "5ep"}}, "custom end→0it"),
        # Rounds count as one or more.
        ("lottery-ticket", {"rounds": 1}, "custom end→0it"),
        ("late-rewinding", {"rounds": 1, "weights": {"at": "end-4ep"}}, "weight-rewinding"),
        ("weight-rewinding", {"rounds": 2}, "late-rewinding"),
        # Names and words count.
        ("snip", {"mask": {"criterion": "magnitude"}}, "custom 0it→0it"),
        ("snip", {"mask": {"scope": "uniform"}}, "custom 0it→0it"),
        ("snip", {"mask": {"granularity": "filter"}}, "custom 0it→0it"),
        ("snip", {"mask": {"score": {"mode": "eval"}}}, "custom 0it→0it"),
        ("snip", {"mask": {"control": "shuffle"}}, "custom 0it→0it"),
        ("snip", {"mask": {"control": "shuffle"}, "weights": {"transform": ["reinit"]}}, "control-shuffle"),
        ("control-shuffle", {"mask": {"control": "invert"}}, "custom 0it→0it"),
        ("snip", {"weights": {"transform": ["reinit"]}}, "custom 0it→0it"),
        ("snip", {"retrain": "none"}, "custom 0it→0it"),
        ("snip", {"mask": {"score": {"iterations": 9, "nested": False}}}, "force"),
        ("snip", {"mask": {"score": {"iterations": 9}}}, "iterative-snip"),
        ("force", {"mask": {"score": {"iterations": 9, "nested": False, "path": "linear"}}}, "custom 0it→0it"),
        ("fine-tune", {"retrain": {"clock": {"hold": 0.01}}}, "magnitude-after-training"),
        ("fine-tune", {"retrain": {"until": "end", "clock": "end-4ep"}}, "custom end→end"),
        ("learning-rate-rewinding", {"retrain": {"clock": "0it"}}, "custom end→end"),
        ("greg-1", {"retrain": {"schedule": "cosine"}}, "custom end→end"),
        ("gradual-magnitude", {"retrain": {"dynamics": {"name": "gradual", "path": "linear"}}}, "custom 0it→0it"),
        ("gradual-magnitude", {"retrain": {"dynamics": {"name": "gradual", "criterion": "l1"}}}, "custom 0it→0it"),
        ("gradual-magnitude", {"retrain": {"dynamics": {"name": "gradual", "until": "end"}}}, "custom 0it→0it"),
        ("greg-2", {"weights": {"at": "end", "transform": []}}, "custom end→end"),
        ("weight-rewinding", {"weights": {"at": "mask"}, "retrain": {"clock": "end-4ep"}}, "custom end→mask"),
    ],
)
def test_places_names_and_words_decide(preset: str, blocks: dict[str, Any], paradigm_name: str) -> None:
    assert named(preset, **blocks) == paradigm_name


def test_a_place_at_the_written_length_of_the_clock_is_the_end() -> None:
    assert named("fine-tune", train={"steps": "7ep"}, mask={"at": "7ep"}) == "fine-tune"
    assert named("fine-tune", train={"steps": "7ep"}, mask={"at": "6ep"}) == "custom 6ep→end"


def test_the_name_that_was_typed_does_not_matter() -> None:
    random = axes.PRESETS["random"].make()
    random["mask"] |= {"criterion": "snip", "scope": "global"}
    assert paradigm(Recipe.read(random)) == "snip"


@pytest.fixture
def nested() -> Iterator[None]:
    share = {"share": Option(Number(0.0, 1.0), 0.5)}
    axes.CRITERIA.register("for-this-test", summary="has an option", options=share)(lambda *_, **__: None)
    options = {"criterion": Option(Value(axes.CRITERIA), "magnitude")}
    axes.DYNAMICS.register("nested-for-this-test", summary="has a criterion", options=options)(lambda *_, **__: None)
    yield
    axes.CRITERIA.withdraw("for-this-test")
    axes.DYNAMICS.withdraw("nested-for-this-test")


def random_with(dynamics: Any) -> dict[str, Any]:
    return {**axes.PRESETS["random"].make(), "retrain": {"until": "end", "dynamics": dynamics}}


@pytest.mark.usefixtures("nested")
def test_a_criterion_inside_a_dynamics_counts_by_name_and_not_by_its_numbers() -> None:
    def preset() -> dict[str, Any]:
        return random_with({"name": "nested-for-this-test", "criterion": "for-this-test"})

    axes.PRESETS.register("preset-for-this-test", summary="of this test")(preset)
    try:
        changed = random_with({"name": "nested-for-this-test", "criterion": {"name": "for-this-test", "share": 0.9}})
        other = random_with({"name": "nested-for-this-test", "criterion": "magnitude"})
        assert paradigm(Recipe.read(changed)) == "preset-for-this-test"
        assert paradigm(Recipe.read(other)) == "custom 0it→0it"
    finally:
        axes.PRESETS.withdraw("preset-for-this-test")
