"""Draws from holes: a step's values as they are written, and every draw the same under its name, whoever draws."""

from __future__ import annotations

import json
from typing import Any

import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from prune_search.search.suggest import (
    GridDraw,
    PinnedDraw,
    Range,
    TrialDraw,
    at_step,
    distribution_from,
    remembered,
    spread,
    steps_in,
    walk,
    whole_of,
)


def draw_all(draw: Any) -> tuple[Any, ...]:
    """One of each kind."""
    return (
        draw.choice("c", ("a", "b")),
        draw.uniform("u", 0.1, 1.0, True, None),
        draw.uniform("s", 0.1, 0.9, False, 0.1),
        draw.integer("i", 1, 10, False, 4),
    )


def test_a_step_s_values_are_those_that_were_written() -> None:
    assert steps_in(0.1, 0.9, 0.1) == 8
    assert [at_step(0.1, 0.1, place) for place in range(9)] == [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9]
    assert steps_in(0.5, 0.98, 0.07) == 6
    assert steps_in(0.0, 1.0, None) is steps_in(0.0, 1.0, 1e-16) is None
    assert whole_of(1, 10, False, 4).high == 9


def test_what_a_sampler_drew_is_drawn_again_from_what_is_remembered() -> None:
    trial = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0)).ask()
    drawn = draw_all(TrialDraw(trial))
    kept = json.loads(json.dumps(remembered(trial.params, trial.distributions, {})))
    assert draw_all(PinnedDraw(kept["params"])) == drawn
    assert {name: distribution_from(text) for name, text in kept["distributions"].items()} == {
        "c": CategoricalDistribution(("a", "b")),
        "u": FloatDistribution(0.1, 1.0, log=True),
        "s": IntDistribution(0, 8),
        "i": IntDistribution(1, 9, step=4),
    }


def test_a_grid_s_point_is_drawn_again_too_and_tells_its_continuous_ranges() -> None:
    points = list(walk(2, draw_all))
    assert len(points) == 2 * 2 * 9 * 3
    assert len({point for point, _ in points}) == len(points)
    point, draw = points[-1]
    assert point == (1, 1.0, 0.9, 9)
    assert draw_all(PinnedDraw(draw.params)) == point
    assert draw.ranges() == {"u": Range(0.1, 1.0, True)}


def test_only_the_holes_that_a_point_has_are_turned() -> None:
    def fill(draw: GridDraw) -> tuple[int, ...]:
        chosen = draw.choice("any", ("plain", "rounds"))
        return (chosen, draw.integer("rounds", 1, 3, False, 1)) if chosen else (chosen,)

    assert [point for point, _ in walk(5, fill)] == [(0,), (1, 1), (1, 2), (1, 3)]


def test_a_long_range_of_whole_numbers_is_taken_at_a_few_points() -> None:
    few = [point for point, _ in walk(3, lambda draw: draw.integer("n", 0, 1000, False, 10))]
    assert few == [0, 500, 1000]
    logarithmic = [point for point, _ in walk(3, lambda draw: draw.integer("n", 1, 10_000, True, 1))]
    assert logarithmic == [1, 100, 10_000]
    assert len(list(walk(3, lambda draw: draw.integer("n", 1, 100, False, 1)))) == 100


@pytest.mark.parametrize("log", [False, True])
def test_spread_values_stay_in_their_bounds(log: bool) -> None:
    low, high = 0.1 + 1e-16, 0.7000000000000001
    values = spread(low, high, log, 5)
    assert (values[0], values[-1]) == (low, high)
    assert values == sorted(values)
    (middle,) = spread(low, high, log, 1)
    assert low < middle < high
