"""How a network is trained: options of train and retrain, out of the key where they do nothing."""

from __future__ import annotations

from typing import Any

import pytest

from prune_search.recipe.axes import PRESETS
from prune_search.recipe.clock import resolve
from prune_search.recipe.problems import UserError
from prune_search.recipe.recipe import Recipe
from prune_search.recipe.space import read_space, recipe_epoch
from prune_search.recipe.step import Step
from prune_search.recipe.training_options import EarlyStopping, Lora, TrainingOptions

STOPPING = {"metric": "val/accuracy", "patience": 2, "every": "3it", "restore": False}
GIVEN: dict[str, Any] = {
    "clip": 1.0,
    "label_smoothing": 0.1,
    "decay_norms": False,
    "layer_decay": 0.9,
    "ema": 0.99,
    "early_stopping": STOPPING,
}
NOTHING: dict[str, Any] = {
    "clip": "none",
    "label_smoothing": 0.0,
    "decay_norms": True,
    "layer_decay": 1.0,
    "ema": 0,
    "early_stopping": "none",
}
DIGESTS = {"network": "a", "data": "b"}


def recipe(train: dict[str, Any] | None = None, retrain: dict[str, Any] | None = None) -> Recipe:
    blocks = PRESETS["magnitude-after-training"].make()
    return Recipe.read(
        {**blocks, "train": {"steps": "10ep", **(train or {})}, "retrain": {**blocks["retrain"], **(retrain or {})}}
    )


def refused(train: dict[str, Any] | None = None, retrain: dict[str, Any] | None = None) -> str:
    with pytest.raises(UserError) as error:
        resolve(recipe(train, retrain), 11)
    assert len(error.value.problems) == 1, error.value
    return str(error.value)


def test_an_option_that_does_nothing_is_no_part_of_the_recipe() -> None:
    plain = recipe().canonical
    assert recipe({**NOTHING, "accumulate": 1, "warmup": "0it"}).canonical == plain
    assert recipe({}, {**NOTHING, "warmup": "0it", "loss": "task", "lora": "none"}).canonical == plain
    assert recipe().train.options == recipe().retrain_options == TrainingOptions()


def test_every_option_that_does_something_changes_the_key() -> None:
    keys = {recipe().key(DIGESTS)}
    for key, value in {**GIVEN, "accumulate": 2, "warmup": "5it"}.items():
        keys.add(recipe({key: value}).key(DIGESTS))
    for key, value in {**GIVEN, "warmup": "5it", "loss": "distillation"}.items():
        keys.add(recipe({}, {key: value}).key(DIGESTS))
    for option, value in {"temperature": 3.0, "weight": 0.1, "features": "last"}.items():
        keys.add(recipe({}, {"loss": {"name": "distillation", option: value}}).key(DIGESTS))
    assert len(keys) == 1 + 8 + 8 + 3


def test_a_retraining_has_trains_options_but_for_its_own() -> None:
    every = recipe(GIVEN)
    stopping = EarlyStopping("val/accuracy", 2, Step.parse("3it"), False)
    assert every.train.options == every.retrain_options == TrainingOptions(1.0, 0.1, False, 0.9, 0.99, stopping)
    assert recipe(GIVEN, NOTHING).retrain_options == TrainingOptions()
    assert recipe(GIVEN, {"ema": 0.5}).retrain_options == TrainingOptions(1.0, 0.1, False, 0.9, 0.5, stopping)
    assert recipe(NOTHING, GIVEN).retrain_options == every.train.options


def test_what_a_retraining_repeats_of_train_is_the_same_recipe() -> None:
    assert recipe(GIVEN, GIVEN).canonical == recipe(GIVEN).canonical
    assert recipe(GIVEN, {"clip": 2.0, "ema": 0.99}).retrain is not None
    assert recipe(GIVEN, {"clip": 2.0, "ema": 0.99}).canonical == recipe(GIVEN, {"clip": 2.0}).canonical


def test_bad_values_are_refused_by_their_key() -> None:
    for key, values in {
        "clip": (0, -1.0, "nine", True, float("inf")),
        "label_smoothing": (1.0, -0.1, "a"),
        "decay_norms": (1, "no"),
        "layer_decay": (0.0, 1.1),
        "ema": (1.0, -0.5),
        "early_stopping": (True, "best", 3),
        "warmup": ("end", "end-1ep", 3),
    }.items():
        for value in values:
            assert refused({key: value}).startswith(f"train.{key}: "), (key, value)
            assert refused({}, {key: value}).startswith(f"retrain.{key}: "), (key, value)
    for value in (0, 1.5, "2"):
        assert refused({"accumulate": value}).startswith("train.accumulate: ")
    for text, stopping in (
        ("metric: 'val/acuracy' is not one of", {"metric": "val/acuracy"}),
        ("metric: 'test/loss' is not one of", {"metric": "test/loss"}),
        ("metric: 'sparsity' is not one of", {"metric": "sparsity"}),
        ("patience: must be a whole number", {"patience": 0}),
        ("every: must be a positive length", {"every": "0it"}),
        ("patients: is not a key", {"patients": 3}),
    ):
        assert refused({"early_stopping": stopping}).startswith(f"train.early_stopping.{text}")
    assert "retrain.accumulate: is not a key of retrain" in refused({}, {"accumulate": 2})


def test_bad_teachers_and_losses_are_refused_by_their_key() -> None:
    assert "retrain.loss: 'cross-entropy' is not one of distillation" in refused({}, {"loss": "cross-entropy"})
    for text, options in (
        ("temperature: must be a number > 0", {"temperature": 0}),
        ("weight: must be a number", {"weight": 1.5}),
        ("features: 'all' is not one of last, none", {"features": "all"}),
        ("teacher: must be a string", {"teacher": 3}),
    ):
        assert refused({}, {"loss": {"name": "distillation", **options}}).startswith(f"retrain.loss.{text}")
    untrained = refused({"steps": "0it"}, {"loss": "distillation"})
    assert untrained.startswith("retrain.loss.teacher: dense is the network at the end of its training")
    blocks = PRESETS["snip"].make()
    with pytest.raises(UserError, match=r"mask.score.loss: 'distillation' is not one of .*cross-entropy"):
        Recipe.read({**blocks, "mask": {**blocks["mask"], "score": {"loss": "distillation"}}})


def test_warm_ups_multiply_the_rate_whatever_the_schedule() -> None:
    own = {"schedule": {"name": "cosine"}, "optimizer": {"lr": 0.5}}
    plain, warm = recipe(own), recipe({**own, "warmup": "4it"})
    from prune_search.recipe.clock import train_rate

    for step in (0, 1, 3, 4, 60):
        factor = min(1.0, (step + 1) / 4)
        assert train_rate(warm, 11)(step) == pytest.approx(train_rate(plain, 11)(step) * factor)
    held = resolve(recipe({}, {"warmup": "10it"}), 11).rate
    assert [held(step) for step in (0, 4, 9, 20)] == pytest.approx([0.0001, 0.0005, 0.001, 0.001])


def test_a_warm_up_is_given_once_and_fits() -> None:
    twice = refused({"warmup": "4it", "schedule": {"name": "cosine", "warmup": "1ep"}})
    assert twice == "train.warmup: is a second warm-up: train.schedule has one of 1ep; give one of them"
    assert refused({"warmup": "11ep"}).startswith("train.warmup: 11ep is 121 iterations, past the end of a training")
    assert refused({}, {"warmup": "6ep"}).startswith("retrain.warmup: 6ep is 66 iterations, past the end")


def test_a_dense_teacher_asks_for_the_whole_training() -> None:
    blocks = {**PRESETS["snip"].make(), "train": {"steps": "10ep"}}
    assert resolve(Recipe.read(blocks), 11).trained == 0
    taught = {**blocks, "retrain": {**blocks["retrain"], "loss": "distillation"}}
    assert resolve(Recipe.read(taught), 11).trained == 110
    folder = {"name": "distillation", "teacher": "a/folder"}
    assert resolve(Recipe.read({**blocks, "retrain": {**blocks["retrain"], "loss": folder}}), 11).trained == 0


def test_where_a_teacher_lies_is_no_part_of_the_key() -> None:
    keys = {
        recipe({}, {"loss": {"name": "distillation", "teacher": name}}).key({**DIGESTS, "teacher": digest})
        for name, digest in (("a", "1"), ("b", "1"), ("a", "2"))
    }
    assert len(keys) == 2


def test_an_epoch_has_fewer_steps_of_more_batches() -> None:
    assert recipe_epoch(recipe({"batch": 32, "accumulate": 4}), 1000) == 7
    assert recipe_epoch(recipe({"batch": 32}), 1000) == 31
    with pytest.raises(UserError, match=r"train.accumulate: 4 batches of 32 are more than the training set of 100"):
        recipe_epoch(recipe({"batch": 32, "accumulate": 4}), 100)


class Last:
    """Takes the last option of a choice and the upper bound of a range."""

    def choice(self, name: str, labels: tuple[str, ...]) -> int:
        return len(labels) - 1

    def uniform(self, name: str, low: float, high: float, log: bool, step: float | None) -> float:
        return high

    def integer(self, name: str, low: int, high: int, log: bool, step: int) -> int:
        return high


def test_a_space_can_have_a_hole_in_each_of_them() -> None:
    blocks = PRESETS["magnitude-after-training"].make()
    holes: dict[str, Any] = {
        "clip": {"hole": "choice", "of": ["none", 0.5]},
        "label_smoothing": {"hole": "uniform", "low": 0.0, "high": 0.2},
        "decay_norms": {"hole": "choice", "of": [True, False]},
        "layer_decay": {"hole": "uniform", "low": 0.5, "high": 0.9},
        "ema": {"hole": "choice", "of": [0.0, 0.9]},
        "early_stopping": {"hole": "choice", "of": ["none", {"patience": {"hole": "int", "low": 1, "high": 4}}]},
        "warmup": {"hole": "int", "low": "0it", "high": "8it"},
        "accumulate": {"hole": "int", "low": 1, "high": 4},
    }
    loss = {"name": "distillation", "temperature": {"hole": "uniform", "low": 1, "high": 8}}
    lora = {"rank": {"hole": "int", "low": 2, "high": 8}, "alpha": {"hole": "uniform", "low": 1, "high": 32}}
    either = {"hole": "choice", "of": ["none", lora]}
    retrain = {**blocks["retrain"], "ema": 0.0, "loss": {"hole": "choice", "of": ["task", loss]}, "lora": either}
    space = read_space({**blocks, "train": holes, "retrain": retrain}, "test")
    drawn = space.fill(Last()).recipe()
    assert drawn.train.options == TrainingOptions(
        0.5, 0.2, False, 0.9, 0.9, EarlyStopping("val/loss", 4, Step.parse("1ep"), True)
    )
    assert (str(drawn.train.warmup), drawn.train.accumulate) == ("8it", 4)
    found = drawn.retrain_options.loss
    assert found is not None
    assert found.options["temperature"] == 8.0
    assert drawn.retrain_options.ema == 0.0
    assert drawn.retrain is not None
    assert drawn.retrain.lora == Lora(8, 32.0, ("all",))
