"""The typed blocks of a recipe: each form that a block can have, and the reading of what the program itself wrote."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from prune_search.recipe import axes
from prune_search.recipe.axes import CRITERIA
from prune_search.recipe.blocks import Hold, SameFlops, Score, Sparsity, Stable, UserCode
from prune_search.recipe.fields import Flag
from prune_search.recipe.problems import UserError
from prune_search.recipe.recipe import Named, Recipe
from prune_search.recipe.registry import Option
from prune_search.recipe.step import END, Step

GOLDEN = json.loads((Path(__file__).parents[2] / "golden" / "schema_1" / "canonical.json").read_text())


def read(**blocks: Any) -> Recipe:
    """A recipe that is plain but for what the blocks say."""
    plain: dict[str, Any] = {
        "mask": {"at": "end", "criterion": "magnitude", "sparsity": 0.9},
        "weights": {"at": "end"},
        "retrain": {"steps": "2ep"},
    }
    for name, block in blocks.items():
        plain[name] = {**plain.get(name, {}), **block} if isinstance(block, Mapping) else block
    return Recipe.read(plain)


def test_a_task_names_registered_values_or_code_of_the_users_own() -> None:
    own = read(task={"data": "lab.data:load", "model": "lab.nets:small", "seed": 3}).task
    assert (own.data, own.model, own.seed) == (UserCode("lab.data:load"), UserCode("lab.nets:small"), 3)
    assert own.source.train_examples == 0
    shipped = read(task={"data": "digits", "model": "mlp"}).task
    assert (shipped.data.name, shipped.model.name) == ("digits", "mlp")
    assert shipped.source == axes.DATASETS["digits"].facts


def test_train_has_its_places_and_registered_values_read() -> None:
    train = read(train={"steps": "3ep", "batch": 50, "optimizer": "adam", "threads": 2}).train
    assert (train.steps, train.batch, train.threads, train.precision) == (Step.parse("3ep"), 50, 2, "fp32")
    assert (train.optimizer.name, train.init.name, train.augment.name) == ("adam", "kaiming", "none")
    assert train.schedule.options["factor"] == 0.1
    assert train.start is None
    assert read(train={"from": "w.safetensors"}).train.start == "w.safetensors"


def test_a_mask_is_found_at_a_step_or_where_it_is_stable() -> None:
    placed = read(mask={"at": "5%"}).mask
    assert (placed.at, placed.latest, placed.stable) == (Step.parse("5%"), Step.parse("5%"), None)
    assert read().mask.at == END
    found = read(mask={"at": {"stable": "mask-distance", "below": 0.2, "latest": "30%"}}).mask
    assert isinstance(found.at, Stable)
    assert found.stable is found.at
    assert (found.at.metric.name, found.at.below, str(found.at.window)) == ("mask-distance", 0.2, "5ep")
    assert found.latest == Step.parse("30%")


@pytest.mark.parametrize(
    ("written", "form", "final", "per_round", "layers"),
    [
        ({"final": 0.5}, "final", 0.5, None, None),
        ({"per_round": 0.2}, "per_round", None, 0.2, None),
        ("learned", "learned", None, None, None),
        ({"by": "scope"}, "by", None, None, None),
        ({"layers": 2}, "layers", None, None, 2),
    ],
)
def test_a_sparsity_has_one_form(
    written: Any, form: str, final: float | None, per_round: float | None, layers: int | None
) -> None:
    sparsity = Sparsity.of(written)
    assert (sparsity.form, sparsity.final, sparsity.per_round, sparsity.layers) == (form, final, per_round, layers)
    assert sparsity.known == (form in ("final", "per_round"))
    assert (sparsity.learned, sparsity.by_scope) == (form == "learned", form == "by")


def test_the_options_of_a_mask_are_attributes() -> None:
    mask = read(
        mask={
            "criterion": "snip",
            "scope": {"name": "global", "exclude": ["0"]},
            "prepare": "rising-penalty",
            "control": "shuffle",
            "rounding": "floor-keep",
        }
    ).mask
    assert (mask.criterion.name, mask.scope.name, mask.granularity.name) == ("snip", "global", "weight")
    assert mask.scope.options["exclude"] == ["0"]
    assert mask.prepare is not None
    assert mask.control is not None
    assert (mask.prepare.name, mask.control.name, mask.rounding) == ("rising-penalty", "shuffle", "floor-keep")
    plain = read().mask
    assert (plain.prepare, plain.control, plain.rounding) == (None, None, "half-up")


def test_a_score_has_its_defaults_and_batches_or_examples_per_class() -> None:
    plain = read().mask.score
    assert (plain.iterations, plain.batches, plain.per_class, plain.nested, plain.mode) == (1, 1, None, True, "train")
    assert (plain.path.name, plain.normalization.name) == ("exponential", "none")
    assert isinstance(plain.loss, Named)
    assert plain.loss.name == "cross-entropy"
    other = read(mask={"score": {"iterations": 7, "per_class": 5, "normalization": "l2", "mode": "eval"}}).mask.score
    assert (other.iterations, other.per_class, other.normalization.name, other.mode) == (7, 5, "l2", "eval")


def test_a_score_takes_a_function_of_the_callers_own_as_its_loss() -> None:
    def loss(outputs: float, labels: float) -> float:
        return outputs - labels

    score = Score.of({"loss": loss, "mode": None})
    assert score.loss is loss
    assert score.mode is None
    assert score.iterations == 1


def test_weights_are_taken_at_a_step_the_masks_place_or_as_prepared() -> None:
    assert read(weights={"at": "2ep"}).weights.at == Step.parse("2ep")
    assert read(weights={"at": "mask"}).weights.at == "mask"
    assert read(mask={"prepare": "rising-penalty"}, weights={"at": "prepared"}).weights.at == "prepared"
    chain = read(weights={"at": "0it", "transform": ["reinit", {"name": "batchnorm-recalibrate", "batches": 3}]})
    assert [named.name for named in chain.weights.transforms] == ["reinit", "batchnorm-recalibrate"]
    assert chain.transforms[1].options["batches"] == 3


def test_a_retraining_lasts_some_steps_until_a_place_or_as_many_operations() -> None:
    assert read(retrain="none").retrain is None
    steps = read(retrain={"steps": "2ep"}).retrain
    assert steps is not None
    assert (steps.steps, steps.until, steps.stretch, steps.dynamics) == (Step.parse("2ep"), None, False, None)
    assert steps.clock == Hold("final")
    flops = read(retrain={"steps": {"same_flops_as": "train", "at_most": 3}, "clock": {"hold": 0.01}}).retrain
    assert flops is not None
    assert (flops.steps, flops.clock) == (SameFlops(3.0), Hold(0.01))
    until = Recipe.read({**read().canonical, "weights": {"at": "0it"}, "retrain": {"until": "end"}}).retrain
    assert until is not None
    assert (until.steps, until.until, until.clock) == (None, END, Step.parse("0it"))


def test_a_retraining_has_a_place_on_the_clock_or_a_schedule_of_its_own() -> None:
    follows = read(weights={"at": "mask"}, mask={"at": "0it"}).retrain
    own = read(retrain={"schedule": "cosine", "optimizer": {"lr": 0.5}}).retrain
    assert follows is not None
    assert own is not None
    assert follows.clock == "mask"
    assert own.clock is None
    assert own.schedule is not None
    assert own.schedule.name == "cosine"
    assert own.optimizer.options["lr"] == 0.5
    moved = read(mask={"criterion": "all", "sparsity": 0.5}, retrain={"dynamics": "gradual"}).retrain
    assert moved is not None
    assert moved.dynamics is not None
    assert moved.dynamics.name == "gradual"


@pytest.mark.parametrize("name", GOLDEN)
def test_what_was_written_reads_back_to_the_same_bytes_and_blocks(name: str) -> None:
    canonical = GOLDEN[name]["canonical"]
    recipe, checked = Recipe.from_canonical(canonical), Recipe.read(canonical)
    assert recipe.canonical == checked.canonical == canonical
    assert recipe.key({}) == checked.key({})
    assert (recipe.task, recipe.train, recipe.mask) == (checked.task, checked.train, checked.mask)
    assert (recipe.weights, recipe.retrain) == (checked.weights, checked.retrain)


def test_what_was_written_is_not_checked_anew() -> None:
    wrong = read().canonical | {"rounds": 2, "mask": {**read().blocks["mask"], "at": "2ep"}}
    with pytest.raises(UserError, match=r"mask\.at"):
        Recipe.read(wrong)
    assert Recipe.from_canonical(wrong).rounds == 2


def test_an_option_that_came_later_has_its_default_in_what_was_written_before() -> None:
    options = {"flag": Option(Flag(), False, later=True)}
    CRITERIA.register("later-one", summary="for this test", options=options)(lambda scoring, flag: {})
    try:
        old = Recipe.from_canonical(read(mask={"criterion": "later-one"}).canonical)
        assert old.mask.criterion.options == {"flag": False}
        assert old.mask.criterion.written == "later-one"
    finally:
        CRITERIA.withdraw("later-one")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda blocks: blocks | {"schema": 99}, "newer prune-search"),
        (lambda blocks: {key: block for key, block in blocks.items() if key != "mask"}, "mask"),
        (lambda blocks: blocks | {"train": {**blocks["train"], "batch": "many"}}, "batch is 'many', no int"),
        (lambda blocks: blocks | {"weights": {"at": "3 ep", "transform": []}}, "is not a step"),
        (lambda blocks: blocks | {"mask": {**blocks["mask"], "criterion": "snipp"}}, "mask.criterion: 'snipp'"),
        (lambda blocks: blocks | {"mask": None}, "not a recipe as prune-search writes one"),
    ],
)
def test_what_this_version_cannot_have_written_is_refused(
    change: Callable[[dict[str, Any]], dict[str, Any]], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        Recipe.from_canonical(change(read().canonical))
