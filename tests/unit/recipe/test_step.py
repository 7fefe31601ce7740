"""Places and lengths on the training clock: what is written, what it means, and what is no step."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prune_search.recipe.step import MAX_EPOCHS, MAX_ITERATIONS, Step, as_iterations

TOTAL, EPOCH = 1000, 100


@pytest.mark.parametrize(
    ("written", "iteration"),
    [
        ("0it", 0),
        ("0ep", 0),
        ("120it", 120),
        ("3ep", 300),
        ("3ep20it", 320),
        ("5%", 50),
        ("0%", 0),
        ("100%", 1000),
        ("0.05%", 1),
        ("end", 1000),
        ("end-3ep", 700),
        ("end-3ep20it", 680),
        ("end-20it", 980),
        ("end-5%", 950),
        ("end-0it", 1000),
        ("end-100%", 0),
        # Off the clock: the caller refuses it by name.
        ("11ep", 1100),
        ("end-11ep", -100),
    ],
)
def test_a_written_step_lies_at_this_iteration(written: str, iteration: int) -> None:
    assert Step.parse(written).resolve(TOTAL, EPOCH) == iteration


@pytest.mark.parametrize(
    ("written", "total", "iteration"),
    [
        ("50%", 1, 1),
        ("50%", 3, 2),
        ("50%", 5, 3),
        ("2.5%", 100, 3),
        ("12.5%", 4, 1),
        ("33.333333333%", 3, 1),
        ("10%", 4, 0),
    ],
)
def test_a_percentage_is_rounded_half_up(written: str, total: int, iteration: int) -> None:
    assert Step.parse(written).resolve(total, EPOCH) == iteration


def test_a_percentage_back_from_the_end_is_rounded_before_it_is_subtracted() -> None:
    assert Step.parse("end-50%").resolve(3, EPOCH) == 1


@pytest.mark.parametrize(
    ("written", "kept"),
    [
        ("007ep", "7ep"),
        ("0ep20it", "0ep20it"),
        ("5.50%", "5.5%"),
        ("100.0%", "100%"),
        ("10%", "10%"),
        ("0.000000001%", "0.000000001%"),
        ("end", "end"),
        ("end-03ep", "end-3ep"),
        ("end-2.0%", "end-2%"),
    ],
)
def test_each_step_has_one_written_form(written: str, kept: str) -> None:
    assert str(Step.parse(written)) == kept
    assert str(Step.parse(kept)) == kept


@given(
    st.one_of(
        st.integers(0, MAX_EPOCHS).map("{}ep".format),
        st.integers(0, MAX_ITERATIONS).map("{}it".format),
        st.tuples(st.integers(0, MAX_EPOCHS), st.integers(0, MAX_ITERATIONS)).map("{0[0]}ep{0[1]}it".format),
        st.decimals(0, 100, places=9).map("{:f}%".format),
        st.just("end"),
    ),
    st.booleans(),
)
def test_what_is_written_is_read_back_and_means_the_same(text: str, back: bool) -> None:
    step = Step.parse(f"end-{text}" if back and text != "end" else text)
    again = Step.parse(str(step))
    assert (again, again.resolve(TOTAL, EPOCH)) == (step, step.resolve(TOTAL, EPOCH))


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "5",
        "ep",
        "it",
        "%",
        "-3ep",
        "+3ep",
        "3 ep",
        " 3ep",
        "3ep ",
        "3ep\n",
        "3EP",
        "1.5ep",
        "20it3ep",
        "3ep3ep",
        "3ep-1it",
        "5%1it",
        ".5%",
        "5.%",
        "1e1%",
        "0.0000000001%",
        "end-",
        "end-end",
        "end+3ep",
        "End",
        "mask",
        "end-end-3ep",
        "٣ep",
        "3ep" * 1000,
        "9" * 5000 + "it",
    ],
)
def test_anything_else_is_no_step(text: str) -> None:
    with pytest.raises(ValueError, match="is not a step: write 3ep, 120it"):
        Step.parse(text)


@pytest.mark.parametrize(
    "text", ["1000001ep", "1000000000001it", "1000000000000ep", "end-1000001ep", "1ep2000000000it"]
)
def test_an_absurd_length_is_too_long(text: str) -> None:
    with pytest.raises(ValueError, match=f"is too long: at most {MAX_EPOCHS}ep and {MAX_ITERATIONS}it"):
        Step.parse(text)


@pytest.mark.parametrize("text", ["100.1%", "101%", "1000%", "end-100.000000001%", f"{'9' * 40}%"])
def test_more_than_everything_is_over_100_percent(text: str) -> None:
    with pytest.raises(ValueError, match="is over 100%"):
        Step.parse(text)


@pytest.mark.parametrize(
    ("written", "total", "place"),
    [
        ("0it", "10ep", "start"),
        ("0ep", "10ep", "start"),
        ("0%", "10ep", "start"),
        ("end-100%", "10ep", "start"),
        ("end-10ep", "10ep", "start"),
        ("500it", "10ep", "between"),
        ("1ep", "10ep", "between"),
        ("50%", "10ep", "between"),
        ("end-5ep", "10ep", "between"),
        ("end", "10ep", "end"),
        ("10ep", "10ep", "end"),
        ("100%", "10ep", "end"),
        ("end-0it", "10ep", "end"),
        ("end-0%", "10ep", "end"),
        ("0it", "0it", "start"),
        ("end", "0it", "end"),
    ],
)
def test_a_step_is_the_start_the_end_or_between(written: str, total: str, place: str) -> None:
    assert Step.parse(written).place(Step.parse(total)) == place


@pytest.mark.parametrize(
    ("written", "relative"), [("3ep", False), ("3ep1it", False), ("5%", True), ("end", True), ("end-3ep", True)]
)
def test_a_relative_step_needs_the_total(written: str, relative: bool) -> None:
    assert Step.parse(written).relative is relative


def test_a_count_of_iterations_is_a_step() -> None:
    assert str(as_iterations(17)) == "17it"
