"""Where a mask is taken to be stable: at the first place within its limit, or at the latest one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest

from prune_search.training.state_store import StateStore, Steps
from prune_search.trial.rounds import rounds_of
from prune_search.trial.setup import TrialSetup

SetupOf = Callable[[Mapping[str, Any]], TrialSetup]


@pytest.mark.parametrize(
    ("below", "window", "place"),
    [(1.0, "1it", 2), (1.0, "3it", 4), (0.0, "1it", 6)],
    ids=["the second mask is the first that can be compared", "a window of three distances", "never within the limit"],
)
def test_the_place_is_the_first_where_a_whole_window_is_within_the_limit(
    setup_of: SetupOf, below: float, window: str, place: int
) -> None:
    at = {"stable": "mask-distance", "below": below, "window": window, "latest": "6it"}
    raw = {
        "task": {"model": {"name": "mlp", "hidden": [4]}},
        "train": {"steps": "12it", "batch": 800, "optimizer": {"lr": 0.01}},
        "mask": {"at": at, "criterion": "magnitude", "sparsity": 0.5},
        "weights": {"at": "mask"},
        "retrain": {"until": "end", "clock": "mask"},
    }
    steps = Steps()
    _, (only,) = rounds_of(setup_of(raw), StateStore(None, steps))
    assert only.k1 == place
    # Nothing after the place was trained.
    assert steps.trained == place
