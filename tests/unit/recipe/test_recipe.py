"""The canonical form and the key: every default written out, one form for one meaning, and a key of all of it."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from types import MappingProxyType
from typing import Any

import pytest

from prune_search.recipe import axes
from prune_search.recipe.fields import Flag, Number
from prune_search.recipe.problems import UserError
from prune_search.recipe.reading import Reading
from prune_search.recipe.recipe import Named, Recipe, canonical_json, digest_of
from prune_search.recipe.registry import REQUIRED, Option
from prune_search.recipe.schema import DEFAULT_OPTIMIZER, MASK, RETRAIN, SCORE, TASK, TRAIN, WEIGHTS
from prune_search.recipe.space import read_space
from prune_search.recipe.strict_yaml import dump, load

PLAIN = "{mask: {at: 0it, criterion: magnitude, sparsity: 0.5}, weights: {at: 0it}, retrain: {until: end}}"
DIGESTS = {"network": "a" * 64, "data": "b" * 64}
BLOCKS = {"task": TASK, "train": TRAIN, "mask": MASK, "weights": WEIGHTS, "retrain": RETRAIN}


def recipe(text: str, **blocks: Any) -> Recipe:
    return read_space({**load(text, mapping=True), **blocks}, "recipe").only_recipe()


def with_block(**blocks: dict[str, Any]) -> Recipe:
    """The plain recipe, keys of some blocks changed."""
    raw = load(PLAIN, mapping=True)
    return Recipe.read({**raw, **{name: {**raw.get(name, {}), **block} for name, block in blocks.items()}})


def test_every_default_is_written_out() -> None:
    sgd = {"name": "sgd", "lr": 0.1, "momentum": 0.9, "weight_decay": 5e-4, "nesterov": False}
    assert recipe(PLAIN).canonical == {
        "schema": 1,
        "task": {"data": "digits", "model": {"name": "mlp", "hidden": [100, 50]}, "seed": 0},
        "train": {
            "steps": "10ep",
            "batch": 128,
            "init": "kaiming",
            "optimizer": sgd,
            "schedule": {"name": "step", "at": ["50%", "75%"], "factor": 0.1, "warmup": "0it"},
            "precision": "fp32",
            "threads": 1,
            "augment": "none",
        },
        "mask": {
            "at": "0it",
            "criterion": "magnitude",
            "score": {
                "iterations": 1,
                "path": "exponential",
                "nested": True,
                "batches": 1,
                "loss": "cross-entropy",
                "mode": "train",
            },
            "sparsity": {"final": 0.5},
            "scope": "global",
            "granularity": "weight",
        },
        "weights": {"at": "0it", "transform": []},
        "retrain": {"until": "end", "clock": "0it", "optimizer": sgd, "stretch": False},
        "rounds": 1,
    }


@pytest.mark.parametrize("name", sorted(axes.PRESETS))
def test_the_canonical_form_is_a_fixed_point_also_through_a_file(name: str) -> None:
    canonical = Recipe.read(axes.PRESETS[name].make()).canonical
    assert Recipe.read(canonical).canonical == canonical
    again = load(dump(canonical), mapping=True)
    assert canonical_json(Recipe.read(again).canonical) == canonical_json(canonical)


def defaults(canonical: dict[str, Any]) -> Iterator[tuple[str, ...]]:
    """The paths of a canonical form at which a default stands."""
    reading = Reading(outer_optimizer=DEFAULT_OPTIMIZER)
    for block, options in BLOCKS.items():
        if canonical[block] == "none":
            continue
        for key, option in options.items():
            if option.default is REQUIRED or option.default is None:
                continue
            if canonical[block].get(key) == option.field.read(option.default, key, reading):
                yield (block, key)
    for key, option in SCORE.items():
        if option.default is not None and canonical["mask"]["score"].get(key) == option.default:
            yield ("mask", "score", key)


@pytest.mark.parametrize("name", sorted(axes.PRESETS))
def test_a_default_that_is_written_is_a_default_that_is_left_out(name: str) -> None:
    whole = Recipe.read(axes.PRESETS[name].make())
    paths = list(defaults(whole.canonical))
    assert len(paths) > 12
    for path in paths:
        left_out: Any = copy.deepcopy(whole.canonical)
        node = left_out
        for part in path[:-1]:
            node = node[part]
        del node[path[-1]]
        assert Recipe.read(left_out).canonical == whole.canonical, path
        assert Recipe.read(left_out).key(DIGESTS) == whole.key(DIGESTS), path


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("{train: {optimizer: {lr: 1}}}", "{train: {optimizer: {name: sgd, lr: 1.0}}}"),
        ("{train: {optimizer: {weight_decay: 5.0e-4}}}", "{}"),
        ("{train: {optimizer: {weight_decay: 0.0005}}}", "{train: {optimizer: sgd}}"),
        ("{train: {optimizer: {momentum: -0.0}}}", "{train: {optimizer: {momentum: 0}}}"),
        ("{train: {steps: 010ep}}", "{}"),
        ("{train: {schedule: step}}", "{}"),
        ("{train: {schedule: {name: step, at: [50.0%, 75%]}}}", "{}"),
        ("{task: {model: {name: mlp}}}", "{task: {model: mlp, data: {name: digits}}}"),
        ("{rounds: 1, schema: 1}", "{}"),
        ("{task: {}, train: {}}", "{}"),
    ],
)
def test_two_ways_to_write_the_same_have_one_key(one: str, other: str) -> None:
    first, second = (recipe(PLAIN, **load(text)) for text in (one, other))
    assert first.canonical == second.canonical
    assert first.key(DIGESTS) == second.key(DIGESTS)


# --- the clock, the optimizer and the model that are left out -------------------------------------------------------


@pytest.mark.parametrize(
    ("at", "clock"),
    [
        ("0it", "0it"),
        ("500it", "500it"),
        ("2ep", "2ep"),
        ("50%", "50%"),
        ("end-3ep", "end-3ep"),
        ("mask", "mask"),
        ("end", {"hold": "final"}),
        ("prepared", {"hold": "final"}),
        # Written otherwise, and not before the end either.
        ("10ep", {"hold": "final"}),
        ("100%", {"hold": "final"}),
        ("end-0it", {"hold": "final"}),
    ],
)
def test_the_clock_follows_the_weights_unless_they_are_those_of_the_end(at: str, clock: Any) -> None:
    raw = load(PLAIN, mapping=True)
    raw["mask"] |= {"at": "end", "prepare": "rising-penalty"}
    retrain = Recipe.read({**raw, "weights": {"at": at}, "retrain": {"steps": "1ep"}}).retrain
    assert retrain is not None
    assert retrain.written["clock"] == clock


def test_a_retraining_with_a_schedule_of_its_own_has_no_clock() -> None:
    retrain = recipe(PLAIN, retrain={"steps": "1ep", "schedule": "cosine"}).retrain
    assert retrain is not None
    assert "clock" not in retrain.written


def test_retraining_has_no_canonical_form_but_none_where_there_is_none() -> None:
    without = recipe(PLAIN, retrain="none")
    assert without.blocks["retrain"] == "none"
    assert without.retrain is None


@pytest.mark.parametrize(
    ("train", "retrain", "merged"),
    [
        ({}, {}, {"name": "sgd", "lr": 0.1}),
        ({"lr": 0.05}, {}, {"name": "sgd", "lr": 0.05}),
        ({"lr": 0.05}, {"momentum": 0.5}, {"name": "sgd", "lr": 0.05, "momentum": 0.5}),
        ("adam", {}, {"name": "adam", "lr": 0.001}),
        ({"name": "adam", "beta1": 0.8}, {"lr": 0.01}, {"name": "adam", "lr": 0.01, "beta1": 0.8}),
        ({"name": "adam", "beta1": 0.8}, "sgd", {"name": "sgd", "lr": 0.1, "momentum": 0.9}),
        ({"name": "adam", "lr": 0.5}, "adamw", {"name": "adamw", "lr": 0.001}),
    ],
)
def test_an_optimizer_inside_a_phase_is_merged_over_train_s(train: Any, retrain: Any, merged: dict[str, Any]) -> None:
    transform = {"name": "growing-penalty", "optimizer": retrain}
    read = with_block(train={"optimizer": train}, retrain={"optimizer": retrain}, weights={"transform": [transform]})
    blocks = read.blocks
    for optimizer in (blocks["retrain"]["optimizer"], blocks["weights"]["transform"][0]["optimizer"]):
        assert optimizer.items() >= merged.items()


@pytest.mark.parametrize(
    ("mask", "model"),
    [({}, "mlp"), ({"granularity": "filter"}, "small-conv"), ({"granularity": {"name": "filter"}}, "small-conv")],
)
def test_the_default_model_is_convolutional_where_filters_go(mask: dict[str, Any], model: str) -> None:
    assert with_block(mask=mask).blocks["task"]["model"]["name"] == model
    assert with_block(mask=mask, task={"model": "mlp"}).blocks["task"]["model"]["name"] == "mlp"


def test_a_users_own_model_and_data_stand_as_they_are_written() -> None:
    task = recipe(PLAIN, task={"model": "my.code:Net.build", "data": "mine:data"}).blocks["task"]
    assert task == {"model": "my.code:Net.build", "data": "mine:data", "seed": 0}


@pytest.mark.parametrize(
    "text", ["a:b:c", ":f", "m:", "a b:f", "m.:f", "../m:f", "m:f()", "m:f\n", "é:f", "m" * 500 + ":f"]
)
def test_what_names_no_factory_is_refused(text: str) -> None:
    with pytest.raises(UserError, match=r"task\.model: .* is not of the form package\.module:factory"):
        recipe(PLAIN, task={"model": text})


# --- options of later versions --------------------------------------------------------------------------------------


@pytest.fixture
def later_criterion() -> Iterator[str]:
    options = {
        "first": Option(Number(0.0, 1.0), 0.5),
        "flag": Option(Flag(), False, later=True),
        "share": Option(Number(0.0, 9.0), 1, later=True),
    }
    axes.CRITERIA.register("for-this-test", summary="got options later", options=options)(lambda *_, **__: None)
    yield "for-this-test"
    axes.CRITERIA.withdraw("for-this-test")


def test_an_option_of_a_later_version_does_not_change_old_keys(later_criterion: str) -> None:
    old = with_block(mask={"criterion": later_criterion})
    assert old.blocks["mask"]["criterion"] == {"name": later_criterion, "first": 0.5}
    same = with_block(mask={"criterion": {"name": later_criterion, "flag": False, "share": 1.0}})
    assert same.key(DIGESTS) == old.key(DIGESTS)
    new = with_block(mask={"criterion": {"name": later_criterion, "flag": True}})
    assert new.blocks["mask"]["criterion"] == {"name": later_criterion, "first": 0.5, "flag": True}
    assert new.key(DIGESTS) != old.key(DIGESTS)


def test_the_default_of_a_later_option_reaches_the_code(later_criterion: str) -> None:
    named = with_block(mask={"criterion": later_criterion}).named(axes.CRITERIA, "mask", "criterion")
    assert dict(named.options) == {"first": 0.5, "flag": False, "share": 1.0}
    assert isinstance(named.options["share"], float)
    assert named.written == {"name": later_criterion, "first": 0.5}


def test_a_named_value_without_options_is_named_by_its_word() -> None:
    assert Named.of(axes.CRITERIA, "magnitude") == Named("magnitude", MappingProxyType({}), "magnitude")


# --- the key --------------------------------------------------------------------------------------------------------

RICH = """
task: {data: fashion-mnist, model: {name: mlp, hidden: [30, 20]}, seed: 3}
train:
  {steps: 4ep20it, optimizer: {nesterov: true}, schedule: {name: cosine, floor: 0.1, warmup: 5%}, augment: crop-flip}
mask:
  {at: end, prepare: rising-penalty, criterion: snip, score: {per_class: 3}, sparsity: {per_round: 0.2},
   control: random}
weights: {at: prepared, transform: [{name: growing-penalty}, reinit]}
retrain: {steps: 2ep, clock: {hold: 0.01}}
rounds: 3
"""


def leaves(node: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    if isinstance(node, dict | list):
        for key, value in node.items() if isinstance(node, dict) else enumerate(node):
            yield from leaves(value, (*path, key))
    else:
        yield path


def changed(canonical: dict[str, Any], path: tuple[Any, ...]) -> Recipe:
    blocks = copy.deepcopy({key: value for key, value in canonical.items() if key != "schema"})
    node: Any = blocks
    for part in path[:-1]:
        node = node[part]
    value = node[path[-1]]
    node[path[-1]] = not value if isinstance(value, bool) else value + "x" if isinstance(value, str) else value + 1e-9
    return Recipe(blocks)


def test_the_key_changes_with_every_leaf_of_the_canonical_form() -> None:
    one = recipe(RICH)
    paths = [path for path in leaves(one.canonical) if path != ("schema",)]
    assert len(paths) > 60
    keys = {changed(one.canonical, path).key(DIGESTS) for path in paths} | {one.key(DIGESTS)}
    assert len(keys) == len(paths) + 1


def test_the_key_is_64_hex_digits_of_what_is_documented() -> None:
    one = recipe(PLAIN)
    assert one.key(DIGESTS) == digest_of({"recipe": one.canonical, "digests": DIGESTS})
    assert len(one.key(DIGESTS)) == 64
    int(one.key(DIGESTS), 16)


@pytest.mark.parametrize("name", ["network", "data", "source"])
def test_the_key_changes_with_every_digest(name: str) -> None:
    one, digests = recipe(PLAIN), {**DIGESTS, "source": "c" * 64}
    assert one.key({**digests, name: "d" * 64}) != one.key(digests)
    assert one.key(digests) != one.key(DIGESTS)


def test_the_search_does_not_count() -> None:
    raw = load(PLAIN, mapping=True)
    alone = read_space(raw, "recipe").only_recipe()
    searched = read_space({**raw, "search": {"trials": 7, "seed": 5}}, "recipe").only_recipe()
    assert searched.canonical == alone.canonical
    assert "search" not in alone.canonical


def test_where_given_weights_lie_does_not_count_but_that_they_are_given_does() -> None:
    end = {"mask": {"at": "end"}, "weights": {"at": "end"}, "retrain": {"until": "end", "clock": "0it"}}
    here, there = (with_block(train={"from": path}, **end) for path in ("a.safetensors", "/else/b.safetensors"))
    assert here.blocks["train"]["from"] == "a.safetensors"
    assert here.key(DIGESTS) == there.key(DIGESTS)
    assert here.key(DIGESTS) != with_block(**end).key(DIGESTS)
    assert here.key(DIGESTS) != here.key({**DIGESTS, "network": "e" * 64})


def test_canonical_json_is_sorted_ascii_without_spaces_and_without_nan() -> None:
    assert canonical_json({"b": [1, 2.5, True, None], "a": "é"}) == '{"a":"\\u00e9","b":[1,2.5,true,null]}'
    with pytest.raises(ValueError, match="not JSON compliant"):
        canonical_json({"a": float("nan")})


def test_the_canonical_form_is_plain_data() -> None:
    canonical = recipe(RICH).canonical
    assert json.loads(canonical_json(canonical)) == canonical
