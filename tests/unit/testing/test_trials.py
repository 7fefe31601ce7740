"""What a plug-in's author learns of an entry in a small trial."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from prune_search.pruning.weights.context import TransformContext
from prune_search.recipe.axes import DYNAMICS, TRANSFORMS
from prune_search.recipe.registry import AnyAxis
from prune_search.testing import check_transform
from prune_search.testing.trials import MAX_STEPS, short_phases, with_dynamics
from prune_search.trial import phases

NAME = "under-test"


@pytest.fixture(autouse=True)
def withdrawn() -> Iterator[None]:
    """What a test registers is gone after it."""
    yield
    axes: tuple[AnyAxis, ...] = (TRANSFORMS,)
    for axis in axes:
        if NAME in axis:
            axis.withdraw(NAME)


def test_a_transform_that_changes_nothing_is_told() -> None:
    @TRANSFORMS.register(NAME, summary="under test")
    def nothing(setting: TransformContext) -> None:
        """The same weights."""

    with pytest.raises(AssertionError, match="transform 'under-test': as transform it changes no weight"):
        check_transform(NAME)


def test_long_phases_are_cut_off_while_something_is_checked_and_only_then() -> None:
    whole = vars(phases)["Segment"]
    with short_phases():
        assert vars(phases)["Segment"] is not whole
    assert vars(phases)["Segment"] is whole
    assert MAX_STEPS > 0


def test_a_recipe_for_a_dynamics_begins_as_the_dynamics_does() -> None:
    for name, entry in DYNAMICS.items():
        raw = with_dynamics(entry)
        assert raw["mask"]["at"] == raw["weights"]["at"] == "0it"
        written = raw["retrain"]["dynamics"]
        assert (written if isinstance(written, str) else written["name"]) == name
