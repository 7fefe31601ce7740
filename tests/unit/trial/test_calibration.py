"""A few steps are timed, and the network is put back as it was."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch

from prune_search.trial import calibration
from prune_search.trial.calibration import calibrate
from prune_search.trial.setup import TrialSetup


def test_times_and_sizes_are_measured_and_no_draw_outside_moves(
    setup_of: Callable[[Mapping[str, Any]], TrialSetup], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calibration, "MEASURED_S", 0.02)
    task = {"data": "digits", "model": {"name": "mlp", "hidden": [8]}}
    setup = setup_of({"preset": "snip", "task": task, "train": {"steps": "1ep", "threads": 2}})
    torch.manual_seed(5)
    wanted = torch.rand(1)
    torch.manual_seed(5)
    found = calibrate(setup)
    assert torch.equal(torch.rand(1), wanted)
    assert torch.get_num_threads() == 1
    assert found.seconds_per_step > 0
    assert found.seconds_per_evaluation > 0
    assert (found.model_bytes, found.device) == (4 * (64 * 8 + 8 + 8 * 10 + 10), "cpu")
