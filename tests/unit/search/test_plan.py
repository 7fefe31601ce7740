"""What a plan counts, against counts by hand and a search that is run."""

from __future__ import annotations

from typing import Any

import pytest

from prune_search.recipe import strict_yaml
from prune_search.recipe.space import Space, known_epoch, read_space
from prune_search.search.plan import Plan, make_plan

CHAINS = """\
preset: lottery-ticket
task: {data: digits, model: {name: mlp, hidden: [16]}, seed: 0}
train: {steps: 3ep}
weights: {at: {hole: choice, of: [0it, 5it]}}
rounds: {hole: int, low: 1, high: 20}
search: {sampler: grid, trials: 40, controls: false}
"""


def planned(text: str, *sets: tuple[str, Any]) -> Plan:
    space: Space = read_space(strict_yaml.load(text), "a test", sets)
    return make_plan(space, known_epoch)


def test_two_rewind_points_times_twenty_rounds() -> None:
    plan = planned(CHAINS)
    # Trajectory 1 and twenty rounds from either point; a round from 5it has 22 steps.
    assert (plan.trials, plan.recipes, plan.vertices) == (40, 40, 41)
    assert plan.steps_shared == 27 + 20 * 27 + 20 * 22
    assert plan.steps_unshared == 40 * 27 + 210 * 27 + 210 * 22
    assert plan.ceiling == pytest.approx(plan.steps_unshared / plan.steps_shared)
    assert plan.exact
    assert len(plan.first) == 20
    assert plan.warnings == ()
    # Trajectory 1 and its rounds, for each of the forty.
    assert plan.as_data()["stretches"] == 40 + 2 * 210


def test_one_shot_pruning_shares_one_plus_k_over_r_at_most() -> None:
    text = """\
preset: fine-tune
task: {data: digits, model: mlp, seed: 0}
train: {steps: 4ep}
mask: {sparsity: {hole: choice, of: [0.5, 0.6, 0.7, 0.8]}}
retrain: {steps: 1ep}
search: {sampler: grid, trials: 4, controls: false}
"""
    plan = planned(text)
    assert plan.ceiling == pytest.approx(4 * (4 + 1) / (4 + 4 * 1))


def test_controls_are_outside_the_count_of_trials_and_the_dense_one_shares_trajectory_1() -> None:
    plan = planned(CHAINS, ("search.controls", True))
    alone = planned(CHAINS)
    assert plan.steps_shared == alone.steps_shared
    mean, last = plan.steps_unshared / 40, (27 + 22) / 2
    assert plan.steps_controls == round(mean + last)


def test_a_sampler_that_learns_is_stood_in_for_by_chance() -> None:
    plan = planned(CHAINS, ("search.sampler", "tpe"))
    assert not plan.exact
    assert plan.trials == plan.drawn == 40
    assert plan.recipes < 40


def test_a_grid_that_is_smaller_than_what_was_asked_for_says_so() -> None:
    assert planned(CHAINS, ("search.trials", 100)).trials == 40


@pytest.mark.slow
def test_many_trials_are_scaled_up_and_not_drawn_one_by_one() -> None:
    plan = planned(CHAINS, ("search.sampler", "tpe"), ("search.trials", 100_000))
    assert (plan.trials, plan.drawn) == (100_000, 2000)
    assert plan.steps_unshared > 100_000 * 27


def test_a_scheduler_saves_what_is_not_shared_anyway() -> None:
    text = """\
preset: snip
task: {data: digits, model: mlp, seed: 0}
train: {steps: 9ep}
mask: {sparsity: {hole: choice, of: [0.5, 0.6, 0.7, 0.8]}}
search: {sampler: grid, trials: 4, controls: false, objectives: [maximize val/accuracy],
  scheduler: {name: asha, grace: 1ep, eta: 3}}
"""
    # A third goes on after 1 epoch, a ninth after 3.
    assert planned(text).scheduler_share == pytest.approx((2 / 3 * 2 + 8 / 9 * 6) / 9)
    assert planned(text, ("search.scheduler", "none")).scheduler_share == 0.0
    assert planned(CHAINS, ("search.scheduler", "asha")).scheduler_share < 0.05


REWOUND = """\
preset: weight-rewinding
task: {data: digits, model: mlp, seed: 0}
train: {steps: 9ep}
weights: {at: {hole: choice, of: [0ep, 3ep, 6ep]}}
search: {sampler: grid, trials: 3, controls: false, objectives: [maximize val/accuracy]}
"""


@pytest.mark.parametrize(
    ("scheduler", "warned"),
    [
        ("none", False),
        ("median", True),
        ({"name": "asha", "grace": "1ep"}, True),
        ({"name": "asha", "grace": "10%"}, False),
        # No retraining is so long.
        ({"name": "asha", "grace": "9ep"}, False),
    ],
)
def test_a_comparison_of_unequal_retrainings_at_equal_steps_is_warned_of(scheduler: Any, warned: bool) -> None:
    plan = planned(REWOUND, ("search.scheduler", scheduler))
    steps = "of 27 to 81 steps at equal steps"
    assert any(steps in text for text in plan.warnings) is warned
    equal = planned(REWOUND, ("search.scheduler", scheduler), ("weights.at", "3ep"), ("search.trials", 1))
    assert not any("at equal steps" in text for text in equal.warnings)


def test_rungs_in_percent_save_a_share_of_every_retraining() -> None:
    plan = planned(REWOUND, ("search.scheduler", {"name": "asha", "grace": "10%", "eta": 3}))
    # Alone on its branch is what comes after the mask: 27, 54 and 81 steps, from 10 % two thirds less, and so on.
    saved = sum(
        2 / 3 * (round(0.3 * n) - round(0.1 * n))
        + 8 / 9 * (round(0.9 * n) - round(0.3 * n))
        + 26 / 27 * (n - round(0.9 * n))
        for n in (27, 54, 81)
    )
    assert plan.scheduler_share == pytest.approx(saved / plan.steps_shared)


@pytest.mark.parametrize(
    ("sets", "warning"),
    [
        ([("mask.sparsity", {"hole": "uniform", "low": 0.5, "high": 0.9})], "sparsity and rounds are both searched"),
        ([("task.seed", {"hole": "int", "low": 0, "high": 99})], "begin differently"),
    ],
    ids=["final sparsity", "seeds"],
)
def test_what_costs_more_than_it_must_is_warned_of(sets: list[tuple[str, Any]], warning: str) -> None:
    plan = planned(CHAINS, *sets, ("search.sampler", "random"))
    assert any(warning in text for text in plan.warnings)
    # Only trajectory 1, or not even that, is shared.
    assert plan.ceiling < 2


def test_low_fidelity_trials_are_said_to_come_on_top() -> None:
    guided = (("search.sampler", "guided"), ("search.trials", 4))
    plain, asked = planned(CHAINS, *guided), planned(CHAINS, *guided, ("search.fidelity", {"steps": 0.25}))
    assert asked.steps_to_train == plain.steps_to_train
    (warning,) = set(asked.warnings) - set(plain.warnings)
    assert "low-fidelity trials (steps 0.25) are not counted in these figures" in warning
    assert "never ask for more than half the steps of the trials" in warning
