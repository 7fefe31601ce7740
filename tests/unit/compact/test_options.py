"""Which plain values the options of an operation take."""

from __future__ import annotations

from typing import Any

import pytest

from prune_search.compact import options
from prune_search.compact.options import MAX_DIMENSIONS, MOST, Kind

LONG = [1] * (MAX_DIMENSIONS + 1)


@pytest.mark.parametrize(
    ("kind", "allowed", "refused"),
    [
        (options.whole, [0, -3, MOST], [True, 1.0, "1", None, MOST + 1, -MOST - 1]),
        (options.size, [1, 64], [0, -1, True, 2.0]),
        (options.flag, [True, False], [0, 1, None, "true"]),
        (options.number, [0, 1.5, -1e9], [True, float("nan"), float("inf"), "1"]),
        (options.number_or_none, [None, 0.1], [float("nan"), False]),
        (options.wholes, [[], [1, 2]], [(1, 2), [True], [1.0], LONG, 1]),
        (options.whole_or_wholes, [3, [3, 3]], [None, "3"]),
        (options.whole_or_none, [None, 3], [True]),
        (options.sides, [None, 3, [3, None]], [[3.0], LONG]),
        (options.padding, ["same", "valid", 1, [1, 2]], ["full", None]),
        (options.word("mean", "sum"), ["mean"], ["max", 0, None]),
        (options.places, [[0], [[None, 3, None], 1]], [[[0, 1]], [None], LONG, 3]),
    ],
)
def test_a_kind_takes_its_values_and_no_others(kind: Kind, allowed: list[Any], refused: list[Any]) -> None:
    assert [value for value in allowed if not kind(value)] == []
    assert [value for value in refused if kind(value)] == []
