"""What is gathered while a file is read, and what stands for a value that could not be read."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from prune_search.recipe.reading import BAD, Reading, UnreadableError


def test_everything_that_is_wrong_is_gathered_in_its_order() -> None:
    reading = Reading()
    assert reading.wrong("rounds", "must be a whole number") is BAD
    assert reading.wrong("mask.at", "is past the end", form=False) is BAD
    assert [(problem.path, problem.form) for problem in reading.problems] == [("rounds", True), ("mask.at", False)]


LOOKS: list[Callable[[], Any]] = [
    *(lambda: BAD["at"], lambda: BAD.get("at"), lambda: "at" in BAD, lambda: BAD == 1, lambda: BAD < 1),
    *(lambda: bool(BAD), lambda: len(BAD), lambda: list(BAD), lambda: {BAD: 1}),
]


def test_whoever_looks_into_what_could_not_be_read_is_stopped() -> None:
    for look in LOOKS:
        with pytest.raises(UnreadableError):
            look()


def test_it_can_be_told_and_shown() -> None:
    bad = BAD
    assert bad is BAD
    assert repr(bad) == "bad"
