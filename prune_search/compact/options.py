"""The options of operations as plain data, with the values that each kind allows."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

MOST = 2**24
MAX_DIMENSIONS = 16

Kind = Callable[[Any], bool]
Kinds = Mapping[str, Kind]


def whole(value: Any, least: int = -MOST) -> bool:
    """An integer that is no flag."""
    return isinstance(value, int) and not isinstance(value, bool) and least <= value <= MOST


def size(value: Any) -> bool:
    """How many channels or features there are."""
    return whole(value, 1)


def flag(value: Any) -> bool:
    """True or false."""
    return isinstance(value, bool)


def flag_or_none(value: Any) -> bool:
    """True or false, or nothing."""
    return value is None or flag(value)


def number(value: Any) -> bool:
    """A finite number."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def number_or_none(value: Any) -> bool:
    """A finite number, or nothing."""
    return value is None or number(value)


def number_or_numbers(value: Any) -> bool:
    """A finite number, or one for each direction."""
    return number(value) or (
        isinstance(value, list) and len(value) <= MAX_DIMENSIONS and all(number(item) for item in value)
    )


def wholes(value: Any) -> bool:
    """A list of integers."""
    return isinstance(value, list) and len(value) <= MAX_DIMENSIONS and all(whole(item) for item in value)


def whole_or_wholes(value: Any) -> bool:
    """An integer, or one for each direction."""
    return whole(value) or wholes(value)


def whole_or_none(value: Any) -> bool:
    """An integer, or nothing."""
    return value is None or whole(value)


def sides(value: Any) -> bool:
    """The sides of what an adaptive pooling makes: integers, None where a side stays."""
    return whole_or_none(value) or (
        isinstance(value, list) and len(value) <= MAX_DIMENSIONS and all(whole_or_none(item) for item in value)
    )


def padding(value: Any) -> bool:
    """Of a convolution."""
    return value in ("same", "valid") or whole_or_wholes(value)


def word(*words: str) -> Kind:
    """One of some words."""
    return lambda value: isinstance(value, str) and value in words


def places(value: Any) -> bool:
    """Per dimension a slice as [begin, end, step], or a place."""
    return (
        isinstance(value, list)
        and len(value) <= MAX_DIMENSIONS
        and all(
            whole(item) or (isinstance(item, list) and len(item) == 3 and all(whole_or_none(part) for part in item))
            for item in value
        )
    )
