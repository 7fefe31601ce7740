"""What a plug-in's author learns of what a search is made of; the searches are simulated."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from matplotlib.figure import Figure

from prune_search.recipe.axes import PICTURES, PRESETS
from prune_search.recipe.registry import AnyAxis
from prune_search.report.figure_data import FigureData
from prune_search.simulation.surface import DEFAULT
from prune_search.testing import check_picture, check_preset
from prune_search.testing.searching import ONE_PARADIGM, simulated

NAME = "under-test"


@pytest.fixture(autouse=True)
def withdrawn() -> Iterator[None]:
    """What a test registers is gone after it."""
    yield
    axes: tuple[AnyAxis, ...] = (PICTURES, PRESETS)
    for axis in axes:
        if NAME in axis:
            axis.withdraw(NAME)


def test_a_picture_of_nothing_is_refused() -> None:
    @PICTURES.register(NAME, summary="under test")
    def always(figure_data: FigureData) -> Figure | None:
        """An empty figure."""
        return Figure()

    with pytest.raises(AssertionError, match=r"it draws something for a search without trials"):
        check_picture(NAME)


def test_a_preset_that_is_another_one_is_told() -> None:
    @PRESETS.register(NAME, summary="control: under test")
    def again() -> dict[str, object]:
        """Snip under another name."""
        return PRESETS["snip"].make()

    with pytest.raises(AssertionError, match="preset 'under-test': its paradigm is 'snip'"):
        check_preset(NAME)


def test_a_simulated_search_is_run_to_its_end_or_not_begun(tmp_path: Path) -> None:
    raw = {**ONE_PARADIGM, "search": {"trials": 2, "controls": False}}
    whole = simulated(raw, DEFAULT, tmp_path / "whole")
    assert [trial.status for trial in whole.numbered()] == ["completed", "completed"]
    assert not simulated(raw, DEFAULT, tmp_path / "empty", run=False).trials
