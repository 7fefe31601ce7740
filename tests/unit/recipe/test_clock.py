"""Where a recipe's steps lie on the training clock, and at which rate it retrains."""

from __future__ import annotations

from typing import Any

import pytest

from prune_search.recipe import axes
from prune_search.recipe.clock import Timeline, resolve, train_rate
from prune_search.recipe.problems import UserError
from prune_search.recipe.recipe import Recipe
from prune_search.recipe.space import epoch_length
from prune_search.recipe.strict_yaml import load

EPOCH = 100  # iterations; K is 10ep = 1000it where nothing else is said

AFTER = "mask: {at: end, criterion: magnitude, sparsity: 0.5}"


def recipe(text: str) -> Recipe:
    return Recipe.read(load(f"{{{text}}}", mapping=True))


def timeline(text: str, epoch: int = EPOCH) -> Timeline:
    return resolve(recipe(text), epoch)


def refused(text: str, epoch: int = EPOCH) -> list[tuple[str, str]]:
    with pytest.raises(UserError) as caught:
        timeline(text, epoch)
    assert not any(problem.form for problem in caught.value.problems)
    return [(problem.path, problem.message) for problem in caught.value.problems]


@pytest.mark.parametrize(
    # k1, k2, trained, steps of one retraining, data order from, clock, first and last rate of the retraining
    ("preset", "expected"),
    {
        "dense": (1000, None, 1000, 0, 1000, None, ()),
        "random": (0, 0, 0, 1000, 0, 0, (0.1, 0.001)),
        "random-global": (0, 0, 0, 2000, 0, 0, (0.01, 0.01)),
        "magnitude-after-training": (1000, None, 1000, 500, 1000, None, (0.001, 0.001)),
        "lottery-ticket": (1000, 0, 1000, 1000, 0, 0, (0.1, 0.001)),
        "late-rewinding": (1000, 20, 1000, 980, 20, 20, (0.1, 0.001)),
        "fine-tune": (1000, None, 1000, 400, 1000, None, (0.001, 0.001)),
        "weight-rewinding": (1000, 600, 1000, 400, 600, 600, (0.01, 0.001)),
        "learning-rate-rewinding": (1000, None, 1000, 400, 600, 600, (0.01, 0.001)),
        # The retraining is as long as is left where the mask is found: a thousand steps at most.
        "early-bird": (500, 500, 500, 1000, 500, 500, (0.01, 0.001)),
        "snip": (0, 0, 0, 1000, 0, 0, (0.1, 0.001)),
        "grasp": (0, 0, 0, 1000, 0, 0, (0.1, 0.001)),
        "synflow": (0, 0, 0, 1000, 0, 0, (0.1, 0.001)),
        "sbp-sr": (0, 0, 0, 1000, 0, 0, (0.1, 0.001)),
        "functional-prior": (0, 0, 0, 1000, 0, 0, (0.1, 0.001)),
        "force": (0, 0, 0, 1000, 0, 0, (0.1, 0.001)),
        "iterative-snip": (0, 0, 0, 1000, 0, 0, (0.1, 0.001)),
        "greg-1": (1000, None, 1000, 12000, 1000, None, (0.01, 0.0001)),
        "greg-2": (1000, None, 1000, 12000, 1000, None, (0.01, 0.0001)),
        "gradual-magnitude": (0, 0, 0, 1000, 0, 0, (0.1, 0.001)),
        "set": (0, 0, 0, 1000, 0, 0, (0.1, 0.001)),
        "rigl": (0, 0, 0, 1000, 0, 0, (0.1, 0.001)),
        "snfs": (0, 0, 0, 1000, 0, 0, (0.1, 0.001)),
        "deepr": (0, 0, 0, 1000, 0, 0, (0.5, 0.5)),
        "gibbs": (0, 0, 0, 1000, 0, 0, (0.1, 0.001)),
        "edge-popup": (0, 0, 0, 0, 0, None, ()),
        "supermask": (0, 0, 0, 0, 0, None, ()),
        "gumbel-mask": (0, 0, 0, 1500, 0, None, (0.01, 0.01)),
        "scratch-e": (1000, 0, 1000, 1000, 0, 0, (0.1, 0.001)),
        "scratch-b": (1000, 0, 1000, 2000, 0, 0, (0.1, 0.001)),
        "obs": (1000, None, 1000, 100, 1000, None, (0.001, 0.001)),
        "thinet": (1000, None, 1000, 200, 1000, None, (0.001, 0.001)),
        "control-shuffle": (0, 0, 0, 1000, 0, 0, (0.1, 0.001)),
        "constrained-rl": (1000, None, 1000, 500, 1000, None, (0.001, 0.001)),
        "fuse-init": (1000, None, 1000, 1000, 0, 0, (0.1, 0.001)),
        "wanda": (1000, None, 1000, 0, 1000, None, ()),
        "sparsegpt": (1000, None, 1000, 0, 1000, None, ()),
        "deep-inverse-prior": (600, 0, 600, 600, 0, 0, (0.01, 0.01)),
    }.items(),
)
def test_the_timeline_of_a_preset_at_paper_length(preset: str, expected: tuple[Any, ...]) -> None:
    line = resolve(Recipe.read(axes.PRESETS[preset].make()), EPOCH)
    *places, rates = expected
    assert [line.k1, line.k2, line.trained, line.retrain_steps, line.order_from, line.clock] == places
    # Masks that are learned at initialization train no weights before.
    hidden = preset in ("edge-popup", "supermask", "gumbel-mask")
    # One has its paper's training, and one fits a single picture; the others have the default's.
    own = {"random-global": 2000, "deep-inverse-prior": 600}.get(preset, 1000)
    assert (line.epoch, line.total) == (EPOCH, 0 if hidden else own)
    if rates:
        assert (line.rate(0), line.rate(line.retrain_steps - 1)) == pytest.approx(rates, rel=1e-12)


def test_every_preset_has_its_timeline_here() -> None:
    (mark,) = [m for m in test_the_timeline_of_a_preset_at_paper_length.pytestmark if m.name == "parametrize"]
    assert set(dict(mark.args[1])) == set(axes.PRESETS)


@pytest.mark.parametrize(
    ("text", "trained"),
    [
        ("mask: {at: 0it, criterion: magnitude, sparsity: 0.5}, weights: {at: 0it}, retrain: none", 0),
        ("mask: {at: 2ep, criterion: magnitude, sparsity: 0.5}, weights: {at: 0it}, retrain: none", 200),
        ("mask: {at: 0it, criterion: magnitude, sparsity: 0.5}, weights: {at: 3ep}, retrain: none", 300),
        ("mask: {at: 2ep, criterion: magnitude, sparsity: 0.5}, weights: {at: mask}, retrain: none", 200),
        ("mask: {at: 0it, criterion: magnitude, sparsity: 0.5}, weights: {at: end}, retrain: none", 1000),
        (
            "mask: {at: 2ep, prepare: rising-penalty, criterion: l1, sparsity: 0.5}, "
            "weights: {at: prepared}, retrain: none",
            200,
        ),
    ],
)
def test_training_from_the_start_goes_only_as_far_as_mask_and_weights_ask(text: str, trained: int) -> None:
    assert timeline(text).trained == trained


def test_a_clock_at_the_mask_is_where_the_mask_is_found() -> None:
    line = timeline(
        "mask: {at: 20%, criterion: magnitude, sparsity: 0.5}, weights: {at: 0it}, retrain: {until: end, clock: mask}"
    )
    assert (line.k1, line.clock, line.order_from, line.retrain_steps) == (200, 200, 200, 800)


def test_a_retraining_can_end_before_the_clock_does() -> None:
    line = timeline(f"{AFTER}, weights: {{at: 1ep}}, retrain: {{until: 6ep}}")
    assert (line.clock, line.retrain_steps) == (100, 500)
    assert line.rate(399) == pytest.approx(0.1)
    assert line.rate(400) == pytest.approx(0.01)


def test_a_length_in_percent_is_of_the_clock() -> None:
    assert timeline(f"{AFTER}, weights: {{at: 0it}}, retrain: {{steps: 25%}}").retrain_steps == 250


def test_a_held_rate_is_that_rate_and_takes_the_data_after_the_clock() -> None:
    line = timeline(f"{AFTER}, weights: {{at: 0it}}, retrain: {{steps: 30ep, clock: {{hold: 0.02}}}}")
    assert (line.clock, line.order_from, line.retrain_steps) == (None, 1000, 3000)
    assert [line.rate(step) for step in (0, 1, 2999)] == [0.02, 0.02, 0.02]


def test_hold_final_is_the_rate_of_the_last_update() -> None:
    retrain = "retrain: {steps: 1ep, clock: {hold: final}}"
    text = f"train: {{schedule: one-cycle}}, {AFTER}, weights: {{at: end}}, {retrain}"
    with pytest.raises(UserError, match="under a thousandth of the peak"):
        timeline(text)
    cosine = text.replace("one-cycle", "{name: cosine, floor: 0.2}")
    line = timeline(cosine)
    assert line.rate(7) == train_rate(recipe(cosine), EPOCH)(999)
    assert line.rate(7) == pytest.approx(0.02, rel=1e-3)


def test_a_schedule_of_its_own_runs_from_its_own_step_0_with_its_own_optimizer() -> None:
    line = timeline(
        f"{AFTER}, weights: {{at: 0it}}, retrain: {{steps: 20ep, optimizer: {{lr: 0.5}}, "
        "schedule: {name: step, at: [50%], factor: 0.1}}"
    )
    assert (line.clock, line.order_from, line.retrain_steps) == (None, 1000, 2000)
    assert [line.rate(step) for step in (0, 999, 1000, 1999)] == pytest.approx([0.5, 0.5, 0.05, 0.05])


def test_an_optimizer_of_its_own_changes_the_rate_on_the_clock() -> None:
    line = timeline(f"{AFTER}, weights: {{at: 0it}}, retrain: {{until: end, optimizer: {{lr: 0.2}}}}")
    assert [line.rate(step) for step in (0, 500)] == pytest.approx([0.2, 0.02])


def test_the_same_recipe_moves_with_the_length_of_an_epoch() -> None:
    text = f"{AFTER}, weights: {{at: 1ep}}, retrain: {{until: end, clock: end-2ep}}"
    line = timeline(text, epoch=429)
    assert (line.total, line.k2, line.clock, line.retrain_steps) == (4290, 429, 3432, 858)


def test_an_epoch_is_the_whole_batches_of_the_training_set() -> None:
    assert epoch_length(55_000, 128) == 429
    assert epoch_length(128, 128) == 1
    with pytest.raises(UserError, match=r"train\.batch: is larger than the training set of 127 examples \(got 128\)"):
        epoch_length(127, 128)


# --- refused --------------------------------------------------------------------------------------------------------

CLOCK = "of the training clock (train.steps is 1000it, an epoch 100it)"


@pytest.mark.parametrize(
    ("text", "path", "message"),
    [
        (
            "mask: {at: 11ep, criterion: magnitude, sparsity: 0.5}, weights: {at: 0it}, retrain: none",
            "mask.at",
            f"11ep is past the end {CLOCK}",
        ),
        (
            "mask: {at: end-11ep, criterion: magnitude, sparsity: 0.5}, weights: {at: 0it}, retrain: none",
            "mask.at",
            f"end-11ep is before the beginning {CLOCK}",
        ),
        # The clock follows the weights, and is not told of a second time.
        (f"{AFTER}, weights: {{at: 1001it}}, retrain: {{until: end}}", "weights.at", f"1001it is past the end {CLOCK}"),
        (
            f"{AFTER}, weights: {{at: 0it}}, retrain: {{until: end, clock: 11ep}}",
            "retrain.clock",
            f"11ep is past the end {CLOCK}",
        ),
        (
            f"{AFTER}, weights: {{at: 0it}}, retrain: {{until: 11ep}}",
            "retrain.until",
            f"11ep is past the end {CLOCK}",
        ),
        (
            f"{AFTER}, weights: {{at: 0it}}, retrain: {{until: 2ep, clock: 3ep}}",
            "retrain.until",
            "2ep is before the start of the retraining (300it of 1000it)",
        ),
        (
            f"{AFTER}, weights: {{at: 3ep}}, retrain: {{steps: 8ep}}",
            "retrain.steps",
            "8ep from the clock's 300it runs past its end (1000it)",
        ),
        (
            "mask: {at: 0it, criterion: all, sparsity: 0.5}, weights: {at: 0it}, "
            "retrain: {steps: 0it, dynamics: gradual}",
            "retrain",
            "has no steps in which retrain.dynamics could move the mask",
        ),
        (
            f"train: {{schedule: {{name: cosine, warmup: 11ep}}}}, {AFTER}, "
            "weights: {at: 0it}, retrain: {until: end}",
            "train.schedule.warmup",
            "'11ep' is iteration 1100, past the end of a clock of 1000 iterations",
        ),
        (
            f"{AFTER}, weights: {{at: 0it}}, "
            "retrain: {steps: 1ep, schedule: {name: step, at: [50%], rates: [1, 1, 1]}}",
            "retrain.schedule.rates",
            "must hold 2 rates, one more than places (got 3)",
        ),
    ],
)
def test_what_does_not_fit_the_clock_is_refused_with_its_place(text: str, path: str, message: str) -> None:
    assert refused(text) == [(path, message)]


def test_several_places_off_the_clock_are_all_said() -> None:
    text = (
        "mask: {at: 11ep, criterion: magnitude, sparsity: 0.5}, weights: {at: 12ep}, "
        "retrain: {clock: 13ep, until: 14ep}"
    )
    assert [path for path, _ in refused(text)] == ["mask.at", "weights.at", "retrain.clock", "retrain.until"]


@pytest.mark.parametrize("block", ["train: {steps: 1000000ep}", "retrain: {steps: 1000000ep, clock: {hold: 0.1}}"])
def test_more_iterations_than_anybody_trains_are_refused(block: str) -> None:
    rest = "weights: {at: 0it}" + ("" if "retrain" in block else ", retrain: none")
    ((path, message),) = refused(f"{block}, {AFTER}, {rest}", epoch=1001)
    assert path in ("train.steps", "retrain.steps")
    assert message == "is 1001000000 iterations; at most 1000000000 are allowed"


# --- a retraining that trains nothing -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("train", "retrain", "path"),
    [
        ("{schedule: cosine}", "{steps: 5ep, clock: {hold: final}}", "retrain.clock"),
        ("{}", "{steps: 5ep, clock: {hold: 0.00009}}", "retrain.clock"),
        ("{schedule: {name: step, at: [50%], factor: 0.0001}}", "{until: end, clock: 50%}", "retrain.clock"),
        ("{schedule: {name: step, at: [50%], factor: 0.0001}}", "{until: end, clock: 40%}", "retrain.clock"),
        ("{}", "{steps: 5ep, schedule: {name: step, at: [49%], rates: [0.1, 0.00001]}}", "retrain.schedule"),
    ],
)
def test_a_rate_under_a_thousandth_of_the_peak_for_over_half_the_steps_is_refused(
    train: str, retrain: str, path: str
) -> None:
    ((where, message),) = refused(f"train: {train}, {AFTER}, weights: {{at: 0it}}, retrain: {retrain}")
    assert where == path
    assert message.startswith("the learning rate is under a thousandth of the peak (0.1) for over half of the ")
    assert message.endswith(": hold a rate or rewind the clock")


@pytest.mark.parametrize(
    ("train", "retrain"),
    [
        ("{schedule: {name: cosine, floor: 0.001}}", "{steps: 5ep, clock: {hold: final}}"),
        ("{}", "{steps: 5ep, clock: {hold: 0.0001}}"),
        ("{schedule: {name: step, at: [50%], factor: 0.0001}}", "{until: end, clock: 0it}"),
        ("{}", "{steps: 5ep, schedule: {name: step, at: [50%], rates: [0.1, 0.00001]}}"),
        ("{schedule: cosine}", "{steps: 0it, clock: {hold: final}}"),
        ("{steps: 0it}", "{steps: 5ep, clock: {hold: 0.00001}}"),
    ],
)
def test_a_rate_that_is_small_for_no_more_than_half_the_steps_is_allowed(train: str, retrain: str) -> None:
    timeline(f"train: {train}, {AFTER}, weights: {{at: 0it}}, retrain: {retrain}")


def test_very_long_retrainings_are_judged_in_no_time() -> None:
    line = timeline(f"train: {{steps: 1000000ep}}, {AFTER}, weights: {{at: 0it}}, retrain: {{until: end}}", epoch=1000)
    assert line.retrain_steps == 10**9


@pytest.mark.parametrize(
    ("places", "wrong"),
    [
        ("from: 80%, until: 20%", [("until", "20% comes before from (80%)")]),
        ("from: 5ep, until: 50ep", [("until", "50ep is past the end of the retraining (1000it)")]),
        (
            "from: end-11ep, until: 50ep",
            [
                ("from", "end-11ep is before the beginning of the retraining (1000it)"),
                ("until", "50ep is past the end of the retraining (1000it)"),
            ],
        ),
    ],
)
def test_gradual_pruning_lies_on_its_retraining(places: str, wrong: list[tuple[str, str]]) -> None:
    head = "mask: {at: 0it, criterion: all, sparsity: 0.9}, weights: {at: 0it}"
    found = refused(f"{head}, retrain: {{until: end, dynamics: {{name: gradual, {places}}}}}")
    assert found == [(f"retrain.dynamics.{key}", message) for key, message in wrong]
    timeline(f"{head}, retrain: {{until: end, dynamics: {{name: gradual, from: 0it, until: end}}}}")


def test_places_and_schedules_that_do_not_fit_are_said_together() -> None:
    train = "{steps: 10ep, schedule: {name: step, at: [60%, 40%]}}"
    found = refused(f"train: {train}, {AFTER}, weights: {{at: 12ep}}, retrain: {{until: end, clock: 11ep}}")
    assert [path for path, _ in found] == ["weights.at", "retrain.clock", "train.schedule.at.1"]
