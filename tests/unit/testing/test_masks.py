"""What a plug-in's author learns of what decides a mask beside its criterion."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal

import pytest
from torch import Tensor

from prune_search.pruning.mask.controls import Chosen
from prune_search.recipe.axes import CONTROLS, NORMALIZATIONS, PATHS, STABILITIES
from prune_search.recipe.registry import AnyAxis
from prune_search.testing import check_control, check_normalization, check_path, check_stability

NAME = "under-test"


@pytest.fixture(autouse=True)
def withdrawn() -> Iterator[None]:
    """What a test registers is gone after it."""
    yield
    axes: tuple[AnyAxis, ...] = (CONTROLS, NORMALIZATIONS, PATHS, STABILITIES)
    for axis in axes:
        if NAME in axis:
            axis.withdraw(NAME)


def test_a_normalization_and_a_path_say_what_does_not_hold() -> None:
    @NORMALIZATIONS.register(NAME, summary="under test")
    def over_the_sum(scores: Tensor) -> Tensor:
        """Zero over zero."""
        return scores / scores.sum()

    @PATHS.register(NAME, summary="under test")
    def late(keep: Decimal, share: Decimal) -> Decimal:
        """Never gets there."""
        return Decimal(1)

    with pytest.raises(AssertionError, match=r"not finite for a layer whose scores are all 0"):
        check_normalization(NAME)
    with pytest.raises(AssertionError, match=r"it ends at 1, and not at 0\.001"):
        check_path(NAME)


def test_a_control_that_keeps_what_the_mask_keeps_is_none() -> None:
    @CONTROLS.register(NAME, summary="under test")
    def same(chosen: Chosen) -> dict[str, Tensor]:
        """The mask itself."""
        return dict(chosen.kept)

    with pytest.raises(AssertionError, match="it keeps the same units as the mask that it replaces"):
        check_control(NAME)


def test_a_stability_that_depends_on_the_direction_is_told() -> None:
    @STABILITIES.register(NAME, summary="under test")
    def share(one: dict[str, Tensor], other: dict[str, Tensor]) -> float:
        """The share of the first that the second lacks."""
        lost = sum(int((one[name] & ~other[name]).sum()) for name in one)
        return lost / sum(int(mask.sum()) for mask in one.values())

    with pytest.raises(AssertionError, match="apart from the other, and the other"):
        check_stability(NAME)
