"""How single keys are read: the canonical form of what is right, and one sentence for what is wrong."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import pytest

from prune_search.recipe import axes
from prune_search.recipe.facts import Facts, Transform
from prune_search.recipe.fields import (
    ClockStep,
    Either,
    Flag,
    Integer,
    Length,
    ListOf,
    Number,
    Optimizer,
    Settings,
    Text,
    Value,
    Word,
    child,
    comes_before_the_mask,
    read_block,
)
from prune_search.recipe.reading import BAD, Reading
from prune_search.recipe.registry import AnyAxis, Axis, Field, Option

STEPS = Either(((str, ClockStep(("mask",))), (dict, Word(("never",)))))


def read(field: Field, raw: Any, outer: Mapping[str, Any] | None = None) -> Any:
    reading = Reading(outer_optimizer=outer)
    value = field.read(raw, "a.b", reading)
    assert not reading.problems
    return value


def refused(field: Field, raw: Any, outer: Mapping[str, Any] | None = None) -> str:
    """The one message."""
    reading = Reading(outer_optimizer=outer)
    assert field.read(raw, "a.b", reading) is BAD
    (problem,) = reading.problems
    assert problem.path == "a.b"
    assert problem.form
    assert "\n" not in str(problem)
    return problem.message


@pytest.mark.parametrize(
    ("field", "raw", "value"),
    [
        (Number(), 3, 3.0),
        (Number(), 5e-4, 0.0005),
        (Number(0.0, 1.0), 1, 1.0),
        (Number(0.0, 1.0), 0, 0.0),
        (Integer(1, 10), 10, 10),
        (Integer(-5, 10), -5, -5),
        (Flag(), False, False),
        (Word(("train", "eval")), "eval", "eval"),
        (Text(5), "a b:ü", "a b:ü"),
        (ClockStep(), "007ep", "7ep"),
        (ClockStep(("mask",)), "mask", "mask"),
        (Length(), "5%", "5%"),
        (Length(), "0it", "0it"),
        (Length(absolute=True), "3ep20it", "3ep20it"),
        (ListOf(Integer()), [1, 2], [1, 2]),
        (ListOf(Integer()), 1, [1]),
        (ListOf(Integer()), [], []),
        (STEPS, "end-3ep", "end-3ep"),
    ],
)
def test_what_is_right_has_this_canonical_form(field: Field, raw: Any, value: Any) -> None:
    got = read(field, raw)
    assert got == value
    assert type(got) is type(value)


def test_zero_has_one_written_form() -> None:
    assert math.copysign(1.0, read(Number(), -0.0)) == 1.0


@pytest.mark.parametrize("raw", [True, "3", None, [3], {}, math.nan, math.inf, -math.inf])
def test_what_is_no_finite_number_is_refused(raw: Any) -> None:
    assert refused(Number(), raw).startswith("must be a number (got ")


@pytest.mark.parametrize(
    ("field", "raw", "message"),
    [
        (Number(0.0, 1.0), 1.5, "must be a number ≥ 0 and ≤ 1 (got 1.5)"),
        (Number(0.0, 1.0, above=True, below=True), 0, "must be a number > 0 and < 1 (got 0)"),
        (Number(0.0, 1.0, above=True, below=True), 1.0, "must be a number > 0 and < 1 (got 1.0)"),
        (Integer(1, 10), 11, "must be a whole number from 1 to 10 (got 11)"),
        (Integer(1, 10), 1.0, "must be a whole number from 1 to 10 (got 1.0)"),
        (Integer(0, 10), True, "must be a whole number from 0 to 10 (got True)"),
        (Flag(), "yes", "must be true or false (got 'yes')"),
        (Flag(), 1, "must be true or false (got 1)"),
        (Word(("train", "eval")), "evall", "'evall' is not one of eval, train (did you mean 'eval'?)"),
        (Word(("train", "eval")), 3, "3 is not one of eval, train"),
        (Text(5), "", "must be a string of at most 5 characters (got '')"),
        (Text(5), "abcdef", "must be a string of at most 5 characters (got 'abcdef')"),
        (Text(5), "a\nb", "must be a string of at most 5 characters (got 'a\\nb')"),
        (ClockStep(), 5, "must be a step (3ep, 120it, 5%, end, end-3ep) (got 5) (did you mean '5it'?)"),
        (ClockStep(), 0, "must be a step (3ep, 120it, 5%, end, end-3ep) (got 0) (did you mean '0it'?)"),
        (ClockStep(), -5, "must be a step (3ep, 120it, 5%, end, end-3ep) (got -5)"),
        (ClockStep(), 10**12, "must be a step (3ep, 120it, 5%, end, end-3ep) (got 1000000000000)"),
        (ClockStep(), True, "must be a step (3ep, 120it, 5%, end, end-3ep) (got True)"),
        (ClockStep(), "5", "'5' is not a step: write 3ep, 120it, 3ep20it, 5%, end or end-3ep"),
        (ClockStep(), "mask", "'mask' is not a step: write 3ep, 120it, 3ep20it, 5%, end or end-3ep"),
        (Length(), "end-3ep", "must be a length (3ep, 120it, 3ep20it, 5%) (got 'end-3ep')"),
        (Length(), "end", "must be a length (3ep, 120it, 3ep20it, 5%) (got 'end')"),
        (Length(absolute=True), "5%", "must be a length (3ep, 120it, 3ep20it) (got '5%')"),
        (Length(positive=True), "0ep", "must be a positive length (3ep, 120it, 3ep20it, 5%) (got '0ep')"),
        (Length(positive=True), "0%", "must be a positive length (3ep, 120it, 3ep20it, 5%) (got '0%')"),
        (ListOf(Integer(), 1, 2), [], "must be a list of 1 to 2 values (got 0)"),
        (ListOf(Integer(), 1, 2), [1, 2, 3], "must be a list of 1 to 2 values (got 3)"),
        (STEPS, 5, "must be a step (3ep, 120it, 5%, end, end-3ep) or mask, or never (got 5) (did you mean '5it'?)"),
        (STEPS, True, "must be a step (3ep, 120it, 5%, end, end-3ep) or mask, or never (got True)"),
        (STEPS, [], "must be a step (3ep, 120it, 5%, end, end-3ep) or mask, or never (got [])"),
    ],
)
def test_what_is_wrong_is_said_with_the_value(field: Field, raw: Any, message: str) -> None:
    assert refused(field, raw).startswith(message)


def test_a_number_beyond_a_float_is_refused_however_long_it_is() -> None:
    assert refused(Number(), 10**400).startswith("is too large (got 1000")
    assert refused(Number(), -(10**5000)) == "is too large (got a number of 16610 bits)"
    assert refused(Integer(), 10**5000).endswith("(got a number of 16610 bits)")


def test_every_wrong_value_of_a_list_is_said_with_its_place() -> None:
    reading = Reading()
    assert ListOf(Integer(0, 9)).read([1, 10, "x", 2], "a", reading) is BAD
    assert [problem.path for problem in reading.problems] == ["a.1", "a.2"]


# --- registered values ----------------------------------------------------------------------------------------------


@pytest.fixture
def axis() -> AnyAxis:
    axis: Axis[Transform, object] = Axis(Transform, "thing", "a.b")
    axis.register("plain", summary="takes no options")(lambda *_, **__: None)
    axis.register("other", summary="for another place", facts=Transform(place="prepare"))(lambda *_, **__: None)
    options = {
        "share": Option(Number(0.0, 1.0), 0.5),
        "times": Option(Integer(0, 9)),
        "note": Option(Text(), None),
        "new": Option(Length(), "007it", later=True),
    }
    axis.register("rich", summary="takes options", options=options)(lambda **options: options)
    only_later = {"new": Option(Flag(), False, later=True)}
    axis.register("young", summary="was plain when the schema was frozen", options=only_later)(lambda new: new)
    return axis


@pytest.mark.parametrize(
    ("raw", "canonical"),
    [
        ("plain", "plain"),
        ({"name": "plain"}, "plain"),
        ({"name": "rich", "times": 3}, {"name": "rich", "share": 0.5, "times": 3}),
        ({"times": 3, "share": 0.5, "name": "rich"}, {"name": "rich", "share": 0.5, "times": 3}),
        ({"name": "rich", "times": 3, "note": "x"}, {"name": "rich", "share": 0.5, "times": 3, "note": "x"}),
        # An option of a later version is left out while it has its default, however that is written.
        ({"name": "rich", "times": 3, "new": "7it"}, {"name": "rich", "share": 0.5, "times": 3}),
        ({"name": "rich", "times": 3, "new": "8it"}, {"name": "rich", "share": 0.5, "times": 3, "new": "8it"}),
        ("young", "young"),
        ({"name": "young", "new": False}, "young"),
        ({"name": "young", "new": True}, {"name": "young", "new": True}),
    ],
)
def test_a_registered_value_is_its_name_or_a_mapping_where_options_are_written(
    axis: AnyAxis, raw: Any, canonical: Any
) -> None:
    value = read(Value(axis), raw)
    assert value == canonical
    assert read(Value(axis), value) == value


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        ("plan", "'plan' is not one of other, plain, rich, young (did you mean 'plain'?)"),
        ({"name": "plan"}, "'plan' is not one of other, plain, rich, young (did you mean 'plain'?)"),
        ({"name": 3}, "3 is not one of other, plain, rich, young"),
        ({"share": 0.5}, "needs the key 'name' of a thing (got {'share': 0.5})"),
        ({}, "needs the key 'name' of a thing (got {})"),
        (3, "must be the name of a thing, or {name: …, options} (got 3)"),
        (None, "must be the name of a thing, or {name: …, options} (got None)"),
        (["plain"], "must be the name of a thing, or {name: …, options} (got ['plain'])"),
    ],
)
def test_what_is_not_registered_is_refused_with_what_is(axis: AnyAxis, raw: Any, message: str) -> None:
    assert refused(Value(axis), raw) == message


def test_only_entries_of_the_asked_kind_are_allowed(axis: AnyAxis) -> None:
    assert read(Value(axis, comes_before_the_mask), "other") == "other"
    assert refused(Value(axis, comes_before_the_mask), "plain") == "'plain' is not one of other"


def test_an_axis_without_entries_says_so() -> None:
    assert refused(Value(Axis(Facts, "thing", "a.b")), "x") == "'x' is not one of (nothing is registered yet)"


def test_every_wrong_option_is_said_with_its_path(axis: AnyAxis) -> None:
    reading = Reading()
    given = {"name": "rich", "share": 2, "note": None, "shares": 1, "a\nb": 1}
    assert Value(axis).read(given, "a", reading) is BAD
    assert {(problem.path, problem.message) for problem in reading.problems} == {
        ("a.shares", "is not a key of a (did you mean 'share'?); valid keys: share, times, note, new"),
        ("a.'a\\nb'", "is not a key of a; valid keys: share, times, note, new"),
        ("a.share", "must be a number ≥ 0 and ≤ 1 (got 2)"),
        ("a.times", "is missing; it must be a whole number from 0 to 9"),
        ("a.note", "is empty; it must be a string of at most 400 characters"),
    }


def test_a_value_without_options_says_so(axis: AnyAxis) -> None:
    reading = Reading()
    assert Value(axis).read({"name": "plain", "x": 1}, "a", reading) is BAD
    assert [str(problem) for problem in reading.problems] == ["a.x: is not a key of a; it takes no options"]


def test_a_block_that_is_no_mapping_is_told_its_keys() -> None:
    reading = Reading()
    assert read_block({"x": Option(Flag(), False), "y": Option(Flag(), False)}, 3, "a", reading) is BAD
    assert [str(problem) for problem in reading.problems] == ["a: must be a mapping with the keys x, y (got 3)"]


@pytest.mark.parametrize(
    ("path", "key", "expected"),
    [
        ("", "mask", "mask"),
        ("mask", "at", "mask.at"),
        ("weights.transform", 0, "weights.transform.0"),
        ("mask", "a\nb", "mask.'a\\nb'"),
        ("mask", "", "mask.''"),
        ("", "é", "'\\xe9'"),
        ("", "x" * 10_000, "'" + "x" * 58 + "…"),
    ],
)
def test_a_path_always_fits_on_a_line(path: str, key: object, expected: str) -> None:
    assert child(path, key) == expected


# --- optimizers -----------------------------------------------------------------------------------------------------

OUTER = {"name": "sgd", "lr": 0.05, "momentum": 0.5, "weight_decay": 0.0, "nesterov": False}


@pytest.mark.parametrize(
    ("raw", "changed"),
    [
        ({}, {}),
        ("sgd", {}),
        ({"name": "sgd"}, {}),
        ({"lr": 0.001}, {"lr": 0.001}),
        ({"name": "sgd", "lr": 0.001, "nesterov": True}, {"lr": 0.001, "nesterov": True}),
    ],
)
def test_an_optimizer_given_in_part_is_merged_over_the_outer_one(raw: Any, changed: dict[str, Any]) -> None:
    assert read(Optimizer(axes.OPTIMIZERS), raw, OUTER) == {**OUTER, **changed}


def test_another_optimizer_has_its_own_defaults() -> None:
    adam = read(Optimizer(axes.OPTIMIZERS), "adam", OUTER)
    assert adam == read(Value(axes.OPTIMIZERS), "adam")
    assert adam["lr"] == 0.001


def test_a_key_of_another_optimizer_is_refused() -> None:
    reading = Reading(outer_optimizer=OUTER)
    assert Optimizer(axes.OPTIMIZERS).read({"beta1": 0.9}, "train.optimizer", reading) is BAD
    assert [problem.path for problem in reading.problems] == ["train.optimizer.beta1"]


@pytest.mark.parametrize(("raw", "meant"), [("3 ep", "3ep"), ("5EP", "5ep"), ("ende", "end"), ("End - 3ep", "end-3ep")])
def test_a_step_that_is_nearly_one_is_suggested(raw: str, meant: str) -> None:
    reading = Reading()
    assert ClockStep().read(raw, "mask.at", reading) is BAD
    assert reading.problems[0].message.endswith(f"(did you mean '{meant}'?)")


# --- families, and settings of other libraries


def test_a_member_of_a_family_has_one_form_whichever_way_it_is_written() -> None:
    zoo: Axis[Facts, object] = Axis(Facts, "animal", "task.animal")
    zoo.register("zoo", summary="any", options={"tame": Option(Flag(), False)}, member="NAME")(
        lambda tame, member: f"{member} {tame}"
    )
    written: tuple[Any, ...] = (
        "zoo/plains/ape",
        {"name": "zoo/plains/ape"},
        {"name": "zoo", "id": "plains/ape"},
        {"name": "zoo", "id": "plains/ape", "tame": False},
    )
    for raw in written:
        assert Value(zoo).read(raw, "", Reading()) == {"name": "zoo/plains/ape", "tame": False}
    reading = Reading()
    odd: tuple[Any, ...] = (
        "zoo",
        {"name": "zoo", "id": 3},
        {"name": "zoo/ape", "id": "ape"},
        {"name": "zo", "id": "ape"},
    )
    for raw in odd:
        assert Value(zoo).read(raw, "x", reading) is BAD
    assert [problem.message for problem in reading.problems] == [
        "'zoo' is a family of animals: write zoo/NAME",
        "'zoo' is a family of animals: write zoo/NAME",
        "is not a key of x; valid keys: tame",
        "'zo' is not one of zoo/NAME (did you mean 'zoo'?)",
    ]
    assert Value(zoo).describe() == "a animal: zoo/NAME"


def test_settings_are_plain_values_in_the_order_of_their_names() -> None:
    value = Settings().read({"b": [1, {"z": 1, "y": None}], "a": 0.5}, "", Reading())
    assert value == {"a": 0.5, "b": [1, {"y": None, "z": 1}]}
    assert list(value) == ["a", "b"]
    assert list(value["b"][1]) == ["y", "z"]
    wrong: tuple[Any, ...] = (
        [],
        "x",
        {"": 1},
        {1: 2},
        {"a": math.inf},
        {"a": {"b": {3: 1}}},
        {str(i): i for i in range(201)},
    )
    for raw in wrong:
        reading = Reading()
        assert Settings().read(raw, "config", reading) is BAD
        assert [problem.path for problem in reading.problems] == ["config"]
