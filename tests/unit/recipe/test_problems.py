"""What is wrong is said all at once, each with its place, on lines that anything can show."""

from __future__ import annotations

import pickle  # noqa: TID251 - what a worker raises travels through a pickle of Ray's

from prune_search.recipe.problems import Problem, UserError, not_one_of, shown, suggestion


def test_every_problem_is_a_line_with_its_file_and_key() -> None:
    error = UserError([Problem("mask.at", "is no step", "a.yaml"), Problem("", "is empty", "b.yaml")])
    assert str(error) == "a.yaml: mask.at: is no step\nb.yaml: is empty"
    assert str(UserError("there is no Ray")) == "there is no Ray"


def test_a_source_is_added_only_where_none_is_known() -> None:
    error = UserError([Problem("mask", "is wrong"), Problem("task", "is wrong", "own.yaml")]).of("given.yaml")
    assert [problem.source for problem in error.problems] == ["given.yaml", "own.yaml"]


def test_an_error_travels_from_a_worker_with_all_its_problems() -> None:
    error = UserError([Problem("mask.at", "is no step", "a.yaml", form=False)])
    assert pickle.loads(pickle.dumps(error)).problems == error.problems


def test_whatever_somebody_wrote_is_shown_on_one_short_printable_line() -> None:
    for value in ("a\nb", "\x1b[31m", "é" * 100, ["x"] * 100, 10**5000, {"a": None}):
        text = shown(value)
        assert len(text) <= 60
        assert text.removesuffix("…").isascii()
        assert text.removesuffix("…").isprintable()
    assert shown("x" * 9) == "'xxxxxxxxx'"


def test_a_near_word_is_suggested_and_a_far_one_is_not() -> None:
    known = ["cubic", "linear"]
    assert suggestion("cubix", known) == " (did you mean 'cubic'?)"
    assert suggestion("penguin", known) == suggestion(3, known) == suggestion("c" * 200, known) == ""
    assert not_one_of("cubix", known) == "'cubix' is not one of cubic, linear (did you mean 'cubic'?)"
    assert not_one_of(3, []) == "3 is not one of (nothing is registered yet)"
