"""Metrics of numbers and pictures against their formulas."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from prune_search.recipe.axes import TASK_METRICS
from prune_search.tasks.tallies import Seen

SOURCE = torch.Generator().manual_seed(0)
OUTPUTS, TARGETS = torch.rand(50, 3, generator=SOURCE), torch.rand(50, 3, generator=SOURCE)
ERROR = OUTPUTS - TARGETS


def value(name: str, outputs: Tensor, targets: Tensor, **options: Any) -> float:
    tally: Any = TASK_METRICS[name].make("numbers", 0, **options)
    for start in range(0, 50, 7):
        some = outputs[start : start + 7], targets[start : start + 7]
        tally.update(Seen(some[0], some, some[1], len(some[0]), 0.0))
    return float(tally.value())


def test_errors_are_of_all_values() -> None:
    assert value("mae", OUTPUTS, TARGETS) == pytest.approx(float(ERROR.abs().mean()))
    assert value("rmse", OUTPUTS, TARGETS) == pytest.approx(float(ERROR.square().mean().sqrt()))
    assert value("rmse", OUTPUTS[:, :1], TARGETS[:, 0]) == pytest.approx(float(ERROR[:, 0].square().mean().sqrt()))
    peak = 10 * math.log10(4.0 / float(ERROR.square().mean()))
    assert value("psnr", OUTPUTS, TARGETS, data_range=2.0) == pytest.approx(peak)


def test_r2_is_the_share_of_the_variance_that_is_explained_a_mean_over_the_outputs() -> None:
    def share(outputs: Tensor, targets: Tensor) -> float:
        return 1 - float((outputs - targets).square().sum() / (targets - targets.mean()).square().sum())

    each = [share(OUTPUTS[:, place], TARGETS[:, place]) for place in range(3)]
    assert value("r2", OUTPUTS, TARGETS) == pytest.approx(sum(each) / 3, rel=1e-5)
    for outputs in (OUTPUTS[:, :1], OUTPUTS[:, 0]):
        assert value("r2", outputs, TARGETS[:, 0]) == pytest.approx(each[0], rel=1e-5)
    pictures = OUTPUTS.reshape(-1, 1, 3, 1), TARGETS.reshape(-1, 1, 3, 1)
    assert value("r2", *pictures) == pytest.approx(sum(each) / 3, rel=1e-5)


def test_psnr_leaves_ignored_targets_out() -> None:
    ignored = TARGETS.clone()
    ignored[::3] = -100.0
    counts = ignored != -100.0
    peak = 10 * math.log10(1.0 / float(ERROR[counts].square().mean()))
    assert value("psnr", OUTPUTS, ignored, ignore_value=-100.0) == pytest.approx(peak, rel=1e-5)
    assert value("psnr", OUTPUTS, ignored) < 0
