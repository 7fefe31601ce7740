"""Which recipes share which segments, and that a trial trains just the segments that its branch names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from small_trials import SetupOf, blocks, gradual, greg

from prune_search.recipe.recipe import Recipe
from prune_search.recipe.space import read_space
from prune_search.training.state_store import StateStore, Steps
from prune_search.trial.addresses import Branch, branch_of, nominal_branch
from prune_search.trial.rounds import rounds_of
from prune_search.trial.run import run_trial

EPOCH = 9


def branch(raw: Any) -> Branch:
    recipe: Recipe = read_space(raw, "a test").only_recipe()
    return nominal_branch(recipe, EPOCH)[1]


def shared(first: Any, second: Any) -> list[str]:
    """Places of the segments that two recipes share."""
    others = {vertex.address for vertex in branch(second).vertices()}
    return [vertex.place for vertex in branch(first).vertices() if vertex.address in others]


def test_chains_of_one_fraction_per_round_share_all_their_common_rounds() -> None:
    found = shared(blocks("lottery-ticket", rounds=2), blocks("lottery-ticket", rounds=4))
    assert found == ["train", "retrain.1", "retrain.2"]


def test_chains_of_one_final_sparsity_share_the_first_stretch_only() -> None:
    final = {"mask": {"sparsity": {"final": 0.9}}}
    assert shared(blocks("lottery-ticket", rounds=2, **final), blocks("lottery-ticket", rounds=4, **final)) == ["train"]


@pytest.mark.parametrize(
    ("changes", "places"),
    [
        ({"weights": {"at": "5it"}}, ["train"]),
        ({"mask": {"criterion": "random"}}, ["train"]),
        ({"retrain": {"optimizer": {"lr": 0.01}}}, ["train"]),
        ({"task": {"seed": 1}}, []),
        ({"train": {"batch": 64}}, []),
        ({"train": {"threads": 2}}, []),
        ({"mask": {"control": "shuffle"}}, ["train", "retrain.1", "retrain.2"]),
    ],
    ids=str,
)
def test_a_stretch_is_shared_up_to_the_first_thing_that_differs(changes: Any, places: list[str]) -> None:
    plain = blocks("lottery-ticket", rounds=3)
    block = next(iter(changes))
    other = {**plain, block: {**plain.get(block, {}), **changes[block]}}
    assert shared(plain, other) == places


def test_what_is_needed_of_trajectory_1_ends_where_mask_and_weights_are_taken() -> None:
    assert [(v.place, v.needed) for v in branch(blocks("snip")).vertices()] == [("retrain.1", 18)]
    late = branch(blocks("snip", mask={"at": "4it"}, weights={"at": "7it"}))
    assert next((v.place, v.needed, v.steps) for v in late.vertices()) == ("train", 7, 18)


@pytest.mark.parametrize(
    "raw",
    [blocks("late-rewinding", rounds=3, weights={"at": "5it"}), greg("greg-2"), gradual()],
    ids=["late-rewinding", "greg-2", "gradual"],
)
def test_a_trial_stores_just_the_stretches_of_its_branch(setup_of: SetupOf, tmp_path: Path, raw: Any) -> None:
    setup = setup_of(raw)
    result = run_trial(setup, tmp_path)
    vertices = branch_of(setup.recipe, setup.timeline, setup.root()).vertices()
    assert {path.name for path in tmp_path.glob("vertices/*/*")} == {vertex.address for vertex in vertices}
    assert sum(vertex.needed for vertex in vertices) == result.metrics["steps_trained"]


def test_stretches_say_where_they_stand(setup_of: SetupOf) -> None:
    setup = setup_of(greg("greg-2"))
    first, rounds = rounds_of(setup, StateStore(None, Steps()))
    assert first.place == "train"
    assert rounds[0].prepared is not None
    assert rounds[0].prepared.place == "prepare.1"
    assert rounds[0].retraining.place == "retrain.1"
