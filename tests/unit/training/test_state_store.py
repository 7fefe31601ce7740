"""The account of steps, and what a segment rests on."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest

from prune_search.training.state_store import LackingError, StateStore, Steps


@pytest.mark.parametrize(
    ("steps", "reused"),
    [(Steps(), 0), (Steps(trained=60, needed=100), 40), (Steps(70, 10, needed=100), 40), (Steps(120, needed=100), 0)],
)
def test_what_a_recipe_asks_for_and_was_not_trained_was_reused(steps: Steps, reused: int) -> None:
    assert steps.reused == reused


def test_each_state_that_is_asked_for_is_noted_by_who_asks_last(tmp_path: Path) -> None:
    store = StateStore(tmp_path, Steps())
    store.asked_for("before", 1)
    outer: set[tuple[str, int]] = set()
    inner: set[tuple[str, int]] = set()
    with store.noting(outer):
        store.asked_for("aa", 1)
        with contextlib.suppress(LackingError), store.noting(inner):
            store.asked_for("bb", 2)
            raise LackingError("bb", 2)
        store.asked_for("cc", 3)
    store.asked_for("after", 1)
    assert (outer, inner) == ({("aa", 1), ("cc", 3)}, {("bb", 2)})


def test_a_segment_has_a_folder_only_where_there_is_a_storage(tmp_path: Path) -> None:
    address = "ab" * 32
    assert StateStore(None, Steps()).vertex(address) is None
    assert StateStore(tmp_path, Steps()).vertex(address) == tmp_path / "vertices" / "ab" / address


def test_who_waits_knows_for_which_state() -> None:
    error = LackingError("ab" * 32, 5)
    assert (error.address, error.step) == ("ab" * 32, 5)
    assert str(error) == "step 5 of abababababab is being trained by another trial"
