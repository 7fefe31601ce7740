"""Counts are exact: decided by what was written, never by how a float rounds."""

from __future__ import annotations

import math
from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prune_search.pruning.mask.counts import ROUNDINGS, allocate, exact, keep_count, keep_share
from prune_search.recipe.blocks import Sparsity

SHARES = [Fraction(part, 1000) for part in (0, 1, 5, 10, 36, 50, 99, 100, 125, 200, 333, 500, 501, 640, 900, 999, 1000)]
TOTALS = [*range(31), 99, 100, 101, 999, 1000, 12345, 266_200, 10**9 + 7]


def written(share: Fraction) -> float:
    return share.numerator / share.denominator


@pytest.mark.parametrize(
    ("rounding", "definition"),
    [
        ("half-up", lambda total, kept: math.floor(kept * total + Fraction(1, 2))),
        ("floor-keep", lambda total, kept: math.floor(kept * total)),
        ("floor-drop", lambda total, kept: total - math.floor((1 - kept) * total)),
    ],
)
def test_a_count_is_the_rational_number_s_rounded_as_asked(
    rounding: str, definition: Callable[[int, Fraction], int]
) -> None:
    for sparsity in SHARES:
        share = keep_share(Sparsity.of({"final": written(sparsity)}), 1, 1)
        for total in TOTALS:
            assert keep_count(total, share, rounding) == definition(total, 1 - sparsity), (total, sparsity)


@pytest.mark.parametrize(("total", "kept"), [(5, 1), (10, 1), (15, 2), (25, 3), (35, 4), (45, 5)])
def test_a_half_is_rounded_up_where_floats_and_bankers_would_not(total: int, kept: int) -> None:
    share = keep_share(Sparsity.of({"final": 0.9}), 1, 1)
    assert keep_count(total, share) == kept
    # The trap: in floats a tenth of ten is less than one.
    assert int((1 - 0.9) * 10) == 0
    assert keep_count(10, share, "floor-keep") == 1


def test_every_rounding_keeps_all_of_share_one_and_nothing_of_share_zero() -> None:
    for rounding in ROUNDINGS:
        assert [keep_count(total, Decimal(1), rounding) for total in TOTALS] == TOTALS
        assert {keep_count(total, Decimal(0), rounding) for total in TOTALS} == {0}


@pytest.mark.parametrize("sparsity", [0.2, 0.1, 0.05, 0.3, 0.007])
def test_per_round_is_an_exact_power_whatever_the_number_of_rounds(sparsity: float) -> None:
    kept = 1 - Fraction(str(sparsity))
    for number in range(1, 13):
        share = keep_share(Sparsity.of({"per_round": sparsity}), number, 12)
        assert Fraction(share) == kept**number
        assert share == keep_share(Sparsity.of({"per_round": sparsity}), number, 40)


def test_eleven_rounds_of_a_fifth_leave_what_the_paper_says() -> None:
    shares = [keep_share(Sparsity.of({"per_round": 0.2}), number, 11) for number in range(1, 12)]
    assert [str(share) for share in shares[:4]] == ["0.8", "0.64", "0.512", "0.4096"]
    assert [keep_count(1000, share) for share in shares] == [800, 640, 512, 410, 328, 262, 210, 168, 134, 107, 86]


@pytest.mark.parametrize("sparsity", [0.9, 0.5, 0.98, 0.36])
def test_final_is_reached_exactly_by_equal_factors(sparsity: float) -> None:
    rounds = 7
    shares = [keep_share(Sparsity.of({"final": sparsity}), number, rounds) for number in range(1, rounds + 1)]
    assert shares[-1] == 1 - Decimal(str(sparsity))
    for number, share in enumerate(shares, start=1):
        wanted = (1 - Fraction(str(sparsity))) ** number
        assert abs(Fraction(share) ** rounds - wanted) < Fraction(1, 10**40)


def test_of_one_round_both_forms_are_the_same_share() -> None:
    shares = {keep_share(Sparsity.of({form: 0.36}), 1, 1) for form in ("final", "per_round")}
    assert shares == {Decimal("0.64")}
    assert exact(0.1) == Decimal("0.1")
    assert exact(Decimal("0.3")) == Decimal("0.3")


def test_no_sparsity_keeps_everything_in_every_round() -> None:
    for form in ("final", "per_round"):
        assert {keep_share(Sparsity.of({form: 0.0}), number, 3) for number in (1, 2, 3)} == {1}


CASES = st.integers(1, 8).flatmap(
    lambda layers: st.tuples(
        st.lists(st.integers(0, 50), min_size=layers, max_size=layers),
        st.lists(st.floats(0, 60), min_size=layers, max_size=layers),
        st.integers(0, 300),
    )
)


@given(CASES)
def test_allocated_counts_sum_to_the_total_and_stay_within_capacity(
    case: tuple[list[int], list[float], int],
) -> None:
    capacity, wanted, total = case
    counts = allocate(total, wanted, capacity)
    assert sum(counts) == min(total, sum(capacity))
    assert all(0 <= count <= cap for count, cap in zip(counts, capacity, strict=True))


def test_the_largest_remainders_get_the_rest_and_ties_go_to_the_first() -> None:
    assert allocate(10, [3.7, 3.2, 3.1], [9, 9, 9]) == [4, 3, 3]
    assert allocate(10, [3.1, 3.2, 3.7], [9, 9, 9]) == [3, 3, 4]
    assert allocate(4, [1.5, 1.5, 0.5, 0.5], [9, 9, 9, 9]) == [2, 2, 0, 0]
    assert allocate(3, [0.5, 0.5, 0.5, 0.5, 0.5, 0.5], [1] * 6) == [1, 1, 1, 0, 0, 0]


def test_what_a_full_layer_cannot_take_goes_to_the_others() -> None:
    assert allocate(10, [8.0, 1.0, 1.0], [5, 9, 9]) == [5, 3, 2]
    assert allocate(100, [8.0, 1.0, 1.0], [5, 9, 9]) == [5, 9, 9]


def test_too_much_is_taken_from_the_smallest_remainders_first() -> None:
    assert allocate(8, [3.0, 3.5, 3.2], [9, 9, 9]) == [2, 3, 3]
