"""The closed form against its own formula written out once more, and against what it promises."""

from __future__ import annotations

import math
import statistics
from typing import Any

import pytest

from prune_search.recipe.recipe import Recipe
from prune_search.recipe.space import read_space
from prune_search.search.expected_error import error_at
from prune_search.simulation.chain import chain_of
from prune_search.simulation.surface import Outlook, Simulation, SurfacePoint


def recipe(preset: str, **sets: Any) -> Recipe:
    values = {"train.steps": "60ep", **{key.replace("__", "."): value for key, value in sets.items()}}
    return read_space({"preset": preset}, "a test", list(values.items())).only_recipe()


def outlook(given: Recipe, **options: Any) -> Outlook:
    surface = Simulation.of({"name": "closed-form", **options}).surface
    return surface.outlook(last(given))


def last(given: Recipe) -> SurfacePoint:
    return chain_of(given).rounds[-1].point


def test_the_error_is_flat_above_the_knee_a_power_law_below_it_and_chance_at_the_end() -> None:
    dense, top, knee, gamma = 0.05, 0.9, 0.03, 1.2
    for density in (1.0, 0.3, 0.03, 0.003, 1e-5):
        # |d - i·p·(top/dense)^(1/γ)| / |d - i·p|, as the source writes it with complex numbers.
        low = knee * (top / dense) ** (-1 / gamma)
        ratio = abs(complex(density, low * (top / dense) ** (1 / gamma))) / abs(complex(density, low))
        assert error_at(density, dense, top, knee) == pytest.approx(dense * ratio**gamma)
    assert error_at(1.0, dense, top, knee) == pytest.approx(dense, rel=0.01)
    assert error_at(0.0, dense, top, knee) == pytest.approx(top)
    slope = math.log(error_at(0.008, dense, top, knee) / error_at(0.01, dense, top, knee)) / math.log(0.8)
    assert slope == pytest.approx(-gamma, rel=0.2)


def test_the_formula_of_the_docstring_gives_the_truth() -> None:
    given = recipe("magnitude-after-training", retrain__steps="12ep", retrain__clock={"hold": 0.05})
    line = chain_of(given).timeline
    heat = 0.05 / 0.1
    ln_knee = math.log(0.02) + 0.8 * max(0.0, 1 - heat / 0.3) ** 2 + 0.8 * 2 ** (-(12 / 60) / 0.15) + 0.9**2
    # k1 = k2 = K, and the rate is held: neither an early mask nor a clock after the weights.
    dense = 0.06 + 0.3 * 2 ** (-60 / 10)
    assert line.k1 == line.total
    assert outlook(given).truth == pytest.approx(1 - error_at(0.1, dense, 0.9, math.exp(ln_knee)))


def test_each_finding_moves_the_accuracy_in_its_direction() -> None:
    def truth(preset: str, **sets: Any) -> float:
        return outlook(recipe(preset, **sets)).truth

    at = {"mask__sparsity": 0.96}
    trained = {"retrain__steps": "20ep", "retrain__clock": {"hold": 0.05}}
    magnitude = truth("magnitude-after-training", **at, **trained)
    assert truth("random", **at) < truth("snip", **at) < magnitude
    for worse in (
        {**at, **trained, "retrain__steps": "1ep"},
        {**at, **trained, "retrain__clock": {"hold": 0.001}},
        {**trained, "mask__sparsity": 0.98},
    ):
        assert truth("magnitude-after-training", **worse) < magnitude
    one_shot = truth("learning-rate-rewinding", mask__sparsity=1 - 0.8**14, rounds=1)
    assert truth("learning-rate-rewinding", rounds=14) > one_shot
    assert truth("late-rewinding", weights__at="3ep", retrain__clock="3ep") > truth("lottery-ticket")
    assert truth("lottery-ticket", mask__control="shuffle") < truth("lottery-ticket")
    assert truth("snip", train__optimizer={"name": "sgd", "lr": 1.0}) < truth("snip")
    assert truth("snip", train__steps="5ep") < truth("snip")


def test_noise_is_of_the_seed_grows_with_sparsity_and_can_be_turned_off() -> None:
    def spread(sparsity: float, **options: Any) -> float:
        found = [outlook(recipe("snip", mask__sparsity=sparsity, task__seed=seed), **options) for seed in range(60)]
        assert len({one.truth for one in found}) == 1
        assert statistics.fmean(one.accuracy for one in found) == pytest.approx(found[0].truth, abs=0.003)
        return statistics.stdev(one.accuracy for one in found)

    assert spread(0.5) == pytest.approx(0.002, rel=0.3)
    assert spread(0.97) > 2.5 * spread(0.5)
    assert spread(0.97, noise=0.0) == 0.0


def test_a_round_is_the_same_in_a_chain_of_another_length() -> None:
    short, long = (chain_of(recipe("lottery-ticket", rounds=rounds)).rounds for rounds in (3, 7))
    surface = Simulation.of("closed-form").surface
    assert [surface.outlook(simulated_round.point) for simulated_round in short] == [
        surface.outlook(simulated_round.point) for simulated_round in long[:3]
    ]
    assert len({simulated_round.point.address for simulated_round in long}) == 7


def test_a_curve_goes_from_the_start_to_what_is_measured_at_the_end() -> None:
    found = outlook(recipe("snip"), noise=0.0)
    curve = [found.during(share / 20, 0.0) for share in range(21)]
    assert curve == sorted(curve)
    assert curve[0] == pytest.approx(found.start)
    assert curve[-1] == pytest.approx(found.accuracy)
    assert found.during(found.half, 0.0) - found.start > (found.accuracy - found.start) / 2
