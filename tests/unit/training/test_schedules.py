"""Learning-rate schedules against their closed forms and against torch's own."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from prune_search.recipe.axes import SCHEDULES
from prune_search.recipe.fields import Value
from prune_search.recipe.problems import UserError
from prune_search.recipe.reading import BAD, Reading
from prune_search.training.schedules import final_rate


def rates(name: str, base: float, total: int, epoch: int = 10, **options: Any) -> list[float]:
    rate = SCHEDULES[name].make(base, total, epoch, **options)
    return [rate(step) for step in range(total)]


def by_torch(make: Callable[[torch.optim.Optimizer], Any], base: float, total: int) -> list[float]:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=base)
    schedule = make(optimizer)
    found = []
    for _ in range(total):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return found


def refusal(name: str, **options: Any) -> tuple[str, str]:
    with pytest.raises(UserError) as caught:
        SCHEDULES[name].make(0.1, 100, 10, **options)
    (problem,) = caught.value.problems
    assert not problem.form
    return problem.path, problem.message


def test_constant_is_constant() -> None:
    assert rates("constant", 0.3, 50) == [0.3] * 50


def test_step_drops_at_its_places() -> None:
    assert rates("step", 1.0, 8) == pytest.approx([1.0] * 4 + [0.1] * 2 + [0.01] * 2)
    assert rates("step", 1.0, 40, epoch=10, at=["1ep", "30it"], factor=0.5) == [1.0] * 10 + [0.5] * 20 + [0.25] * 10


def test_step_takes_rates_instead_of_a_factor() -> None:
    found = rates("step", 7.0, 120, epoch=1, at=["60ep", "90ep"], rates=[1e-2, 1e-3, 1e-4], factor=0.1)
    assert found == [1e-2] * 60 + [1e-3] * 30 + [1e-4] * 30


def test_a_place_past_the_end_of_a_shorter_phase_is_never_reached() -> None:
    found = rates("step", 7.0, 80, epoch=1, at=["60ep", "90ep"], rates=[1e-2, 1e-3, 1e-4])
    assert found == [1e-2] * 60 + [1e-3] * 20


def test_step_is_torchs_multi_step() -> None:
    ours = rates("step", 0.1, 100, at=["20it", "50%", "80it"], factor=0.2)
    theirs = by_torch(lambda o: torch.optim.lr_scheduler.MultiStepLR(o, [20, 50, 80], gamma=0.2), 0.1, 100)
    assert ours == pytest.approx(theirs, rel=1e-12)


@pytest.mark.parametrize("floor", [0.0, 0.05])
def test_cosine_is_torchs_cosine(floor: float) -> None:
    ours = rates("cosine", 0.4, 90, floor=floor)
    theirs = by_torch(lambda o: torch.optim.lr_scheduler.CosineAnnealingLR(o, 90, eta_min=floor * 0.4), 0.4, 90)
    assert ours == pytest.approx(theirs, rel=1e-9)
    assert all(later < earlier for earlier, later in itertools.pairwise(ours))


def test_cosine_begins_at_the_base_and_goes_to_the_floor() -> None:
    rate = SCHEDULES["cosine"].make(0.4, 100, 10, floor=0.1)
    assert rate(0) == pytest.approx(0.4)
    assert rate(50) == pytest.approx((0.4 + 0.04) / 2)
    assert rate(100) == pytest.approx(0.04)
    assert rate(150) == rate(100)  # it does not rise again past the end


def test_one_cycle_rises_to_its_peak_and_falls_to_its_final_rate() -> None:
    found = rates("one-cycle", 0.5, 101, peak="30it", start=0.1, final=0.01)
    assert found[0] == pytest.approx(0.05)
    assert found[15] == pytest.approx(0.5 * 0.55)
    assert found[30] == pytest.approx(0.5)
    assert found[65] == pytest.approx(0.5 * 0.505)
    assert found[100] == pytest.approx(0.005)
    assert found[:31] == sorted(found[:31])
    assert found[30:] == sorted(found[30:], reverse=True)


def test_one_cycle_is_torchs_one_cycle() -> None:
    ours = rates("one-cycle", 0.5, 100, peak="29it")
    theirs = by_torch(
        lambda o: torch.optim.lr_scheduler.OneCycleLR(
            o, 0.5, total_steps=101, pct_start=30 / 101, div_factor=25, final_div_factor=400, cycle_momentum=False
        ),
        0.5,
        100,
    )
    # torch's falling arm ends at its last step, which is one step later here.
    assert ours[:30] == pytest.approx(theirs[:30], rel=1e-9)
    expected = [0.5 * (1e-4 + (1 - 1e-4) * (1 + math.cos(math.pi * (t - 29) / 70)) / 2) for t in range(29, 100)]
    assert ours[29:] == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("name", sorted(SCHEDULES))
def test_warm_up_multiplies_and_does_not_move_the_body(name: str) -> None:
    cold = rates(name, 0.2, 100)
    warm = rates(name, 0.2, 100, warmup="2ep")
    assert warm[:20] == pytest.approx([rate * (step + 1) / 20 for step, rate in enumerate(cold[:20])])
    assert warm[19:] == cold[19:]


@pytest.mark.parametrize("name", sorted(SCHEDULES))
@settings(deadline=None, max_examples=50)
@given(total=st.integers(0, 300), epoch=st.integers(1, 50))
def test_a_rate_is_a_function_of_the_step_between_zero_and_the_base(name: str, total: int, epoch: int) -> None:
    rate = SCHEDULES[name].make(0.1, total, epoch, warmup="10%")
    forwards = [rate(step) for step in range(total)]
    assert [rate(step) for step in reversed(range(total))] == forwards[::-1]
    assert all(0.0 <= value <= 0.1 * (1 + 1e-12) for value in forwards)
    if total:
        assert final_rate(rate, total) == forwards[-1]


def test_the_final_rate_of_an_empty_clock_is_its_first() -> None:
    assert final_rate(SCHEDULES["constant"].make(0.1, 0, 10), 0) == 0.1


@pytest.mark.parametrize(
    ("name", "options", "path", "words"),
    [
        ("step", {"rates": [0.1, 0.01]}, "rates", "must hold 3 rates"),
        ("step", {"at": ["50it"], "rates": [0.1, 0.01, 0.001]}, "rates", "must hold 2 rates"),
        ("step", {"at": ["50%", "25%"]}, "at.1", "'25%' comes before '50%'"),
        ("step", {"at": ["end-11ep"]}, "at.0", "before the beginning"),
        ("one-cycle", {"peak": "101it"}, "peak", "past the end"),
        ("cosine", {"warmup": "11ep"}, "warmup", "past the end"),
    ],
)
def test_what_does_not_fit_the_clock_is_refused_with_its_key(
    name: str, options: dict[str, Any], path: str, words: str
) -> None:
    found, message = refusal(name, **options)
    assert found == path
    assert words in message


@pytest.mark.parametrize("name", sorted(SCHEDULES))
def test_the_canonical_form_makes_the_same_schedule_as_the_defaults(name: str) -> None:
    reading = Reading()
    canonical = Value(SCHEDULES).read(name, "train.schedule", reading)
    assert reading.problems == []
    assert canonical["warmup"] == "0it"
    options = {key: value for key, value in canonical.items() if key != "name"}
    assert rates(name, 0.1, 97, **options) == rates(name, 0.1, 97)


def test_both_ways_of_writing_a_step_schedule_are_read() -> None:
    reading = Reading()
    by_factor = {"name": "step", "at": ["50%", "75%"], "factor": 0.1}
    by_rates = {"name": "step", "rates": [1.0e-2, 1.0e-3, 1.0e-4], "at": ["60ep", "90ep"]}
    assert Value(SCHEDULES).read(by_factor, "s", reading) == {**by_factor, "warmup": "0it"}
    assert Value(SCHEDULES).read(by_rates, "s", reading) == {**by_rates, "factor": 0.1, "warmup": "0it"}
    assert Value(SCHEDULES).read({"name": "step", "factor": 0.0}, "s", reading) is BAD
