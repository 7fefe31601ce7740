"""What a plug-in's author learns of an entry of any axis: about its options, texts and values."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from torch import Tensor

from prune_search.pruning.mask.scoring import Scoring
from prune_search.recipe.axes import CRITERIA, LOSSES
from prune_search.recipe.fields import Number
from prune_search.recipe.registry import REQUIRED, AnyAxis, Option
from prune_search.testing import check_criterion, check_entry

NAME = "under-test"


@pytest.fixture(autouse=True)
def withdrawn() -> Iterator[None]:
    """What a test registers is gone after it."""
    yield
    axes: tuple[AnyAxis, ...] = (CRITERIA, LOSSES)
    for axis in axes:
        if NAME in axis:
            axis.withdraw(NAME)


def test_an_option_without_a_default_is_asked_for() -> None:
    @CRITERIA.register(NAME, summary="under test", options={"centre": Option(Number(-1.0, 1.0), REQUIRED, "of it")})
    def distance(scoring: Scoring, *, centre: float) -> dict[str, Tensor]:
        """The distance of each weight from a number."""
        return {name: (weight - centre).abs() for name, weight in scoring.dense.items()}

    with pytest.raises(AssertionError, match=r"must be checked with a value for centre"):
        check_criterion(NAME)
    check_criterion(NAME, centre=0.5)


def test_what_is_wrong_with_a_default_is_said_with_its_option() -> None:
    @CRITERIA.register(NAME, summary="under test", options={"centre": Option(Number(-1.0, 1.0), 3.0, "of it")})
    def distance(scoring: Scoring, centre: float) -> dict[str, Tensor]:
        """The distance of each weight from a number."""
        return {name: (weight - centre).abs() for name, weight in scoring.dense.items()}

    with pytest.raises(AssertionError, match=r"option 'centre': it refuses its own default 3\.0"):
        check_criterion(NAME)


def test_an_entry_that_is_not_there_or_says_nothing_is_told() -> None:
    with pytest.raises(AssertionError, match="loss 'under-test' is not registered: import its module first"):
        check_entry(LOSSES, NAME)

    @LOSSES.register(NAME, summary="under test ")
    def zero(logits: Tensor, labels: Tensor) -> Tensor:
        """Zero."""
        return logits.sum() * 0

    with pytest.raises(AssertionError, match="its summary is empty, or begins or ends with a space"):
        check_entry(LOSSES, NAME)


def test_an_entry_that_holds_is_given_back_with_its_value() -> None:
    one = check_entry(CRITERIA, "magnitude")
    assert (one.axis, one.name, one.named.name) == ("criterion", "magnitude", "magnitude")
