"""Metrics of probabilities against formulas."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from prune_search.recipe.axes import TASK_METRICS
from prune_search.recipe.problems import UserError
from prune_search.tasks.tallies import Seen

SOURCE = torch.Generator().manual_seed(0)
SCORES, CLASSES = torch.randn(60, 7, generator=SOURCE), torch.randint(7, (60,), generator=SOURCE)


def value(name: str, target: str, scores: Tensor, targets: Tensor) -> float:
    """Of batches of seven."""
    tally: Any = TASK_METRICS[name].make(target, 0)
    for start in range(0, len(targets), 7):
        some = scores[start : start + 7], targets[start : start + 7]
        tally.update(Seen(some[0], some, some[1], len(some[0]), 0.0))
    return float(tally.value())


def test_by_hand() -> None:
    scores = torch.tensor([[0.8, 0.2], [0.8, 0.2]]).log()
    labels = torch.tensor([0, 1])
    assert value("brier", "classes", scores, labels) == pytest.approx((0.08 + 1.28) / 2)
    assert value("nll", "classes", scores, labels) == pytest.approx(-(math.log(0.8) + math.log(0.2)) / 2)
    # One bin: confidence .8, accuracy .5.
    assert value("ece", "classes", scores, labels) == pytest.approx(0.3)


def test_of_many_classes_they_are_the_written_out_sums() -> None:
    chances = SCORES.softmax(dim=1)
    right = torch.nn.functional.one_hot(CLASSES, 7)
    assert value("brier", "classes", SCORES, CLASSES) == pytest.approx(float((chances - right).square().sum(1).mean()))
    assert value("nll", "classes", SCORES, CLASSES) == pytest.approx(float(-chances[range(60), CLASSES].log().mean()))
    confidence, guess = chances.max(dim=1)
    bins = (confidence * 15).ceil() - 1
    surplus = confidence - (guess == CLASSES).float()
    gaps = [abs(float(surplus[bins == number].sum())) for number in range(15)]
    assert value("ece", "classes", SCORES, CLASSES) == pytest.approx(sum(gaps) / 60, abs=1e-6)


def test_outputs_between_zero_and_one_are_scores_all_the_same() -> None:
    scores = torch.tensor([[0.9, 0.1]] * 4)
    confidence = 1 / (1 + math.exp(-0.8))
    assert value("ece", "classes", scores, torch.zeros(4, dtype=torch.int64)) == pytest.approx(1 - confidence)


def test_of_chances_every_label_counts() -> None:
    held = (SCORES > 0.3).float()
    wanted = float((SCORES.sigmoid() - held).square().mean())
    assert value("brier", "chances", SCORES, held) == pytest.approx(wanted)
    assert 0 <= value("ece", "chances", SCORES, held) <= 1


@pytest.mark.parametrize("name", ["nll", "brier", "ece"])
def test_numbers_are_refused(name: str) -> None:
    with pytest.raises(UserError, match=f"{name} needs probabilities of classes"):
        TASK_METRICS[name].make("numbers", 0)
