"""Strict YAML: which scalars are what, what is refused and where, and that what is written is read back equal."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prune_search.recipe.problems import UserError
from prune_search.recipe.strict_yaml import MAX_BYTES, MAX_LEVELS, MAX_PROBLEMS, dump, load, load_file, scalar


def problems_of(text: str | bytes, mapping: bool = False) -> list[tuple[str, str]]:
    with pytest.raises(UserError) as caught:
        load(text, mapping)
    return [(problem.path, problem.message) for problem in caught.value.problems]


def places_of(text: str | bytes, mapping: bool = False) -> list[str]:
    return [path for path, _ in problems_of(text, mapping)]


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("2:4", "2:4"),
        ("190:20:30", "190:20:30"),
        ("1e-3", 1e-3),
        ("5.0e-4", 5.0e-4),
        ("1e3", 1000.0),
        ("-1E+2", -100.0),
        (".5", 0.5),
        ("1.", 1.0),
        (".inf", math.inf),
        ("+.Inf", math.inf),
        ("-.INF", -math.inf),
        ("0", 0),
        ("-17", -17),
        ("010", 10),
        ("0o17", 15),
        ("0xfF", 255),
        ("1_000", "1_000"),
        ("0b101", "0b101"),
        ("true", True),
        ("FALSE", False),
        ("tRUE", "tRUE"),
        ("yes", "yes"),
        ("no", "no"),
        ("on", "on"),
        ("off", "off"),
        ("y", "y"),
        ("null", None),
        ("~", None),
        ("", None),
        ("nULL", "nULL"),
        ("2021-03-10", "2021-03-10"),
        ("50%", "50%"),
        ("end-3ep", "end-3ep"),
        ("=", "="),
        ("1e", "1e"),
        ("1.2.3", "1.2.3"),
        ("\u0661", "\u0661"),
        ("'1'", "1"),
        ('"true"', "true"),
        ('"é\\n\\x41"', "é\nA"),
        ("9" * 30, int("9" * 30)),
        ("-" + "9" * 30, -int("9" * 30)),
    ],
)
def test_a_scalar_is_what_the_core_schema_says(written: str, value: Any) -> None:
    read = load(f"key: {written}\n")["key"]
    assert read == value
    assert type(read) is type(value)


def test_nan_is_a_number() -> None:
    assert math.isnan(load("key: .nan")["key"])


def test_a_block_text_is_always_a_string() -> None:
    assert load("a: |\n  1\nb: >-\n  true\n") == {"a": "1\n", "b": "true"}


def test_a_merge_key_is_a_key_like_any_other() -> None:
    assert load("<<: {a: 1}\nb: 2\n") == {"<<": {"a": 1}, "b": 2}


def test_the_order_of_keys_is_that_of_the_file() -> None:
    assert list(load("b: 1\na: 2\nc: 3\n")) == ["b", "a", "c"]


def test_a_leading_byte_order_mark_is_skipped() -> None:
    assert load(b"\xef\xbb\xbfa: 1\n") == {"a": 1}


def test_everything_that_is_wrong_is_said_with_its_line() -> None:
    text = "a: &x 1\nb: *x\na: 2\nc: !!str 3\n7: 2\nd: {e: 1, e: 2}\n? [f]\n: g\nh: " + "1" * 31 + "\n"
    assert problems_of(text) == [
        ("line 1", "the anchor '&x' is not allowed"),
        ("line 2", "the alias '*x' is not allowed; write the value out"),
        ("line 3", "duplicate key 'a', first used in line 1"),
        ("line 4", "the tag '!!str' is not allowed"),
        ("line 5", "a key must be a string; quote it if that is intended (got 7)"),
        ("line 6", "duplicate key 'e', first used in line 6"),
        ("line 7", "a key must be a string; quote it if that is intended (got ['f'])"),
        ("line 9", f"an integer has at most 30 digits (got '{'1' * 31}')"),
    ]


def test_what_stands_before_a_syntax_error_is_said_too() -> None:
    assert places_of("a: 1\na: 2\nb: [1, 2\nc: 3\n") == ["line 2", "line 4"]


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("a: 1\n---\nb: 2\n", "line 2"),
        ("a: 1\n...\n---\nb: 2\n", "line 3"),
        ("a: 1\n\tb: 2\n", "line 2"),
        ("a: 'x\n", "line 2"),
        ('a: 1\nb: "\\q"\n', "line 2"),
        ('a: 1\nb: "\\UFFFFFFFF"\n', "line 2"),
        ('a: 1\nb: "\\ud800"\n', "line 2"),
        ('a: 1\nb: "\\0"\n', "line 2"),
        ("a: 1\nb: ! x\n", "line 2"),
        ("a: 1\nb: !local x\n", "line 2"),
        ("a: 1\nb: !no!handle x\n", "line 2"),
        ("a: 1\nnull: x\n", "line 2"),
        ("a: 1\ntrue: x\n", "line 2"),
        ("a: 1\n1.5: x\n", "line 2"),
        ("a: 1\n: x\n", "line 2"),
        ("a: 1\nb: \x00\n", "line 2"),
        ("a: 1\r\nb: \x1b\n", "line 2"),
        ("a: 1\nb: \u2028\n", "line 2"),
        ("a: 1\nb: \x85\n", "line 2"),
        ("a: 1\nb: \ufeff\n", "line 2"),
        ("a: 1\nb: \ud800\n", "line 2"),
        (b"a: 1\nb: \xff\n", "line 2"),
        ("%YAML " + "1" * 5000 + ".1\n---\na: 1\n", "line 1"),
        ("a: 0x" + "f" * 5000, "line 1"),
        ("a: -" + "1" * 5000, "line 1"),
    ],
)
def test_what_is_no_strict_yaml_is_refused_at_its_line(text: str | bytes, line: str) -> None:
    assert places_of(text) == [line]


@pytest.mark.parametrize("text", ["", "\n", "# only a comment\n", b"\xef\xbb\xbf"])
def test_an_empty_text_is_refused(text: str | bytes) -> None:
    assert problems_of(text) == [("", "is empty")]


@pytest.mark.parametrize("text", ["- a\n", "a", "3", "---\n", "[{a: 1}]"])
def test_the_root_can_be_asked_to_be_a_mapping(text: str) -> None:
    assert "must be a mapping" in problems_of(text, mapping=True)[0][1]
    load(text)


def test_twenty_levels_are_read_and_one_more_is_not() -> None:
    deep = "[" * MAX_LEVELS + "]" * MAX_LEVELS
    assert load(f"{deep}\n") is not None
    assert problems_of(f"\n[{deep}]\n") == [("line 2", "is nested too deeply: at most 20 levels are allowed")]
    assert places_of("- " * (MAX_LEVELS + 1)) == ["line 1"]
    assert places_of("".join(" " * i + "a:\n" for i in range(MAX_LEVELS + 1)) + " " * 30 + "b: 1") == ["line 21"]


def test_the_size_is_limited() -> None:
    fits = "a: " + "x" * (MAX_BYTES - 3)
    assert len(load(fits)["a"]) == MAX_BYTES - 3
    for text in (fits + "x", (fits + "x").encode(), "a: " + "é" * (MAX_BYTES // 2)):
        assert "is too large" in problems_of(text)[0][1]


def test_a_flood_of_problems_is_cut() -> None:
    assert len(problems_of("- &a 1\n" * 10_000)) == MAX_PROBLEMS
    assert len(problems_of("\x01" * 10_000)) == MAX_PROBLEMS


def test_a_file_is_read(tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text("granularity: 2:4\n", encoding="utf-8")
    assert load_file(path) == {"granularity": "2:4"}
    link = tmp_path / "link.yaml"
    link.symlink_to(path)
    assert load_file(link) == {"granularity": "2:4"}


def test_a_problem_of_a_file_names_the_file(tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text("a: 1\na: 2\n", encoding="utf-8")
    with pytest.raises(UserError) as caught:
        load_file(path)
    assert str(caught.value) == f"{path}: line 2: duplicate key 'a', first used in line 1"


def test_a_file_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"absent\.yaml: cannot be read: No such file or directory"):
        load_file(tmp_path / "absent.yaml")


def test_a_file_that_may_not_be_read_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text("a: 1\n", encoding="utf-8")

    def refuse(*args: Any, **kwargs: Any) -> int:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "open", refuse)  # root may read everything, so that a mode proves nothing
    with pytest.raises(UserError, match="cannot be read: Permission denied"):
        load_file(path)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("", None),
        ("  ", None),
        ("3", 3),
        ("1e-3", 1e-3),
        ("2:4", "2:4"),
        ("'3'", "3"),
        ("end-3ep", "end-3ep"),
        ("test/accuracy >= dense - 1%", "test/accuracy >= dense - 1%"),
        ("[0it, 1ep]", ["0it", "1ep"]),
        ("{hole: int, low: 1, high: 11}", {"hole": "int", "low": 1, "high": 11}),
    ],
)
def test_a_value_of_the_command_line(text: str, value: Any) -> None:
    assert scalar(text) == value


@pytest.mark.parametrize("text", ["*a", "&a 1", "!!python/name:os.system x", "{a: 1, a: 2}", "[1", "9" * 40, "\x00"])
def test_a_bad_value_of_the_command_line_is_refused_in_one_line(text: str) -> None:
    with pytest.raises(UserError) as caught:
        scalar(text)
    assert [problem.path for problem in caught.value.problems] == [""]
    assert "\n" not in str(caught.value)


TEXTS = st.one_of(
    st.text(st.characters(exclude_categories=("Cc", "Cs"), include_characters="\n\t\r"), max_size=30),
    st.text("abn01.:-+e_x~ #,[]{}&*!|>'\"%@`?<=/\\\n", max_size=12),
    st.sampled_from(
        ["true", "No", "~", "1e-05", "0x1f", "-.inf", ".nan", "2:4", "---", "...", "<<", "- a", "k" * 2000]
    ),
)
SCALARS = st.none() | st.booleans() | st.integers(-(10**29), 10**29) | st.floats(allow_nan=False, allow_infinity=False)
DATA = st.recursive(
    SCALARS | TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
    max_leaves=15,
)


@settings(max_examples=150, deadline=None)
@given(DATA)
def test_what_is_dumped_is_loaded_equal(data: Any) -> None:
    # repr tells 1 from 1.0 and from True, 0.0 from -0.0, and the order of keys.
    assert repr(load(dump(data))) == repr(data)


@pytest.mark.parametrize("value", [math.inf, -math.inf, 1e-05, 1e16, 1e22, -0.0, 5e-324, 1.7976931348623157e308])
def test_a_float_is_dumped_as_a_float(value: float) -> None:
    assert repr(load(dump([value]))) == repr([value])


def test_what_is_dumped_is_easy_to_read() -> None:
    data = {
        "schema": 1,
        "train": {
            "steps": "10ep",
            "optimizer": {"name": "sgd", "lr": 0.1, "weight_decay": 1e-05},
            "schedule": {"name": "step", "at": ["50%", "75%"], "factor": 0.1},
            "precision": "fp32",
            "note": "a: b",
        },
        "mask": {"granularity": "2:4", "layers": {"0": "1", "yes": "true"}},
        "any": [{"preset": "snip", "mask": {"sparsity": {"hole": "uniform", "low": 0.8, "high": 0.98}}}, []],
    }
    assert dump(data) == (
        "schema: 1\n"
        "train:\n"
        "  steps: 10ep\n"
        "  optimizer: {name: sgd, lr: 0.1, weight_decay: 1e-05}\n"
        "  schedule: {name: step, at: [50%, 75%], factor: 0.1}\n"
        "  precision: fp32\n"
        '  note: "a: b"\n'
        'mask: {granularity: 2:4, layers: {"0": "1", yes: "true"}}\n'
        "any:\n"
        "  - preset: snip\n"
        "    mask: {sparsity: {hole: uniform, low: 0.8, high: 0.98}}\n"
        "  - []\n"
    )
    assert load(dump(data)) == data


def test_an_object_that_stands_twice_is_written_twice() -> None:
    shared = {"lr": 0.1}
    text = dump({"a": shared, "b": [shared, shared]})
    assert text == "a: {lr: 0.1}\nb: [{lr: 0.1}, {lr: 0.1}]\n"


def test_what_could_not_be_read_back_is_not_written() -> None:
    circle: list[Any] = []
    circle.append(circle)
    data = {"a": {1: 2}, "b": [object()], "c": "\x00", "d": 10**30, "e": circle, "f": "x" * MAX_BYTES}
    with pytest.raises(UserError) as caught:
        dump(data)
    paths = [problem.path for problem in caught.value.problems]
    assert paths == ["a", "b.0", "c", "d", "e" + ".0" * (MAX_LEVELS - 1)]
    with pytest.raises(UserError, match="is too large"):
        dump({"f": data["f"]})
