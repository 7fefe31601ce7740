"""What published findings let one expect: sparser is worse, and so is what they found to be worse."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

from prune_search.recipe.clock import Timeline, resolve
from prune_search.recipe.recipe import Recipe
from prune_search.recipe.space import read_space
from prune_search.search.expected_error import expected_error, mean_rate, taken_at

EPOCH = 10


@dataclass(frozen=True)
class Point:
    recipe: Recipe
    timeline: Timeline
    number: int
    density: float
    removed: float


def point(density: float = 0.05, **blocks: Any) -> Point:
    raw = {"train": {"steps": "20ep"}, **blocks}
    recipe = read_space(raw, "a test").only_recipe()
    removed = 1 - density ** (1 / recipe.rounds)
    return Point(recipe, resolve(recipe, EPOCH), recipe.rounds, density, removed)


def error(density: float = 0.05, **blocks: Any) -> float:
    at = point(density, **blocks)
    base, found, top = expected_error(at, 0.06, mean_rate(at))
    assert 0.06 <= base <= found <= top == 0.9
    return found


def test_the_error_grows_with_the_sparsity_up_to_that_of_chance() -> None:
    errors = [error(density, preset="lottery-ticket", rounds=5) for density in (1.0, 0.5, 0.1, 0.02, 0.001, 0.0)]
    assert errors == sorted(errors)
    assert errors[0] < 0.15
    assert errors[-1] == pytest.approx(0.9, abs=0.01)


@pytest.mark.parametrize(
    ("better", "worse"),
    [
        ({"preset": "snip"}, {"preset": "random"}),
        ({"preset": "weight-rewinding"}, {"preset": "fine-tune"}),
        ({"preset": "lottery-ticket", "rounds": 8}, {"preset": "lottery-ticket", "rounds": 1}),
        ({"preset": "rigl"}, {"preset": "random"}),
        ({"preset": "snip"}, {"preset": "control-shuffle"}),
    ],
    ids=["data", "rewound rate", "rounds", "moved mask", "shuffled mask"],
)
def test_what_the_papers_found_to_be_worse_is_expected_to_be_worse(
    better: dict[str, Any], worse: dict[str, Any]
) -> None:
    assert error(**better) <= error(**worse)


def test_a_rate_far_from_the_usual_is_expected_to_cost() -> None:
    usual, low, high = (
        error(preset="snip", train={"steps": "20ep", "optimizer": {"lr": rate}}) for rate in (0.1, 0.0001, 100.0)
    )
    assert usual < min(low, high)


def test_weights_are_taken_at_a_share_of_the_training() -> None:
    assert taken_at(point(preset="lottery-ticket")) == 0.0
    assert taken_at(point(preset="fine-tune")) == 1.0
    assert 0.0 < mean_rate(point(preset="fine-tune")) < mean_rate(point(preset="snip")) <= 1.0
