"""The corners of a space, and points drawn at random in it."""

from __future__ import annotations

import random

from prune_search.recipe.space_samples import AtRandom, Corner, space_samples


def fill(draw: Corner) -> tuple[float, ...]:
    """A choice of three; with the second of them there is a range too."""
    option = draw.choice("any", ("a", "b", "c"))
    return (option, draw.uniform("lr", 0.1, 1.0, True, None)) if option == 1 else (option,)


def test_every_option_and_both_ends_of_every_range_stand_once_conditional_ones_too() -> None:
    assert sorted(space_samples(fill)) == [(0,), (1, 0.1), (1, 1.0), (2,)]


def test_the_upper_end_is_the_last_one_that_a_step_reaches() -> None:
    upper = Corner({"a": 1, "b": 1})
    assert upper.uniform("a", 0.0, 1.0, False, 0.25) == 1.0
    assert upper.uniform("a", 0.0, 1.0, False, 0.375) == 0.75
    assert upper.integer("b", 1, 10, False, 4) == 9
    assert Corner({}).integer("b", 1, 10, False, 4) == 1


def test_random_points_lie_in_their_ranges_and_on_their_steps() -> None:
    draw = AtRandom(random.Random(0))
    for _ in range(200):
        assert 0.01 <= draw.uniform("lr", 0.01, 1.0, True, None) <= 1.0
        assert (draw.uniform("share", 0.0, 1.0, False, 0.25) / 0.25).is_integer()
        assert draw.integer("width", 8, 64, False, 8) % 8 == 0
        assert 1 <= draw.integer("n", 1, 1000, True, 1) <= 1000
        assert draw.choice("any", ("a", "b")) in (0, 1)
    logs = [AtRandom(random.Random(seed)).uniform("lr", 1e-4, 1.0, True, None) < 1e-2 for seed in range(400)]
    # Half of the decades lie below.
    assert 150 < sum(logs) < 250
