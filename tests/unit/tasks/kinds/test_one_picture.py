"""One picture as a task: which pixels each part sees, what is drawn by which seed, and what cannot be."""

from __future__ import annotations

import logging
import math
from typing import Any

import pytest
import torch
from torch import Tensor

from prune_search.recipe.axes import LOSSES, TASK_METRICS
from prune_search.recipe.named import Named
from prune_search.recipe.problems import UserError
from prune_search.tasks.data import ALL_BYTES
from prune_search.tasks.kinds.one_picture import Degraded, picture_task
from prune_search.tasks.shapes import IGNORED
from prune_search.tasks.tallies import Seen
from prune_search.tasks.task import Task
from prune_search.tasks.task_data import TaskData, read_task

CLEAN = torch.rand(3, 8, 8, generator=torch.Generator().manual_seed(7))
HOW = Degraded(sigma=0.1, keep=1.0, held_out=0.25, inputs=4, seed=0)


def targets(task: Task) -> tuple[Tensor, Tensor, Tensor]:
    return tuple(part[1][0] for part in (task.train, task.validation, task.test))


def seen(target: Tensor) -> Tensor:
    """The pixels that count, bool [H, W]: of all channels or of none."""
    counts = target != IGNORED
    assert bool((counts.all(0) == counts.any(0)).all())
    return counts[0]


def digest(task: Task) -> str:
    data, wrong = read_task("x", task)
    assert wrong == []
    assert isinstance(data, TaskData)
    assert data.looked_at == ALL_BYTES
    return data.digest


def test_training_and_validation_see_other_pixels_of_one_noisy_picture_and_the_test_the_clean_one() -> None:
    task = picture_task("x", CLEAN, True, HOW)
    train, validation, test = targets(task)
    assert int(seen(validation).sum()) == 16
    assert torch.equal(seen(train), ~seen(validation))
    assert torch.equal(test, CLEAN)
    noisy = torch.where(train != IGNORED, train, validation)
    assert 0.0 <= float(noisy.min()) <= float(noisy.max()) <= 1.0
    inside = (noisy > 0) & (noisy < 1)
    assert float((noisy - CLEAN)[inside].std()) == pytest.approx(0.1, rel=0.2)
    inputs = [part[0] for part in (task.train, task.validation, task.test)]
    assert all(given.shape == (1, 4, 8, 8) and torch.equal(given, inputs[0]) for given in inputs)
    assert 0.0 <= float(inputs[0].min()) < 0.01
    assert 0.09 < float(inputs[0].max()) <= 0.1


def test_missing_pixels_are_in_neither_part() -> None:
    train, validation, test = targets(picture_task("x", CLEAN, True, Degraded(0.0, 0.5, 0.25, 4, 0)))
    assert int(seen(train).sum()) == 24
    assert int(seen(validation).sum()) == 8
    assert not bool((seen(train) & seen(validation)).any())
    assert torch.equal(train[:, seen(train)], CLEAN[:, seen(train)])
    assert torch.equal(test, CLEAN)


def test_validation_on_the_clean_picture_is_said_and_leaves_all_pixels_to_training(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.WARNING, logger="prune_search"):
        task = picture_task("x", CLEAN, True, Degraded(0.1, 1.0, None, 4, 0))
    assert "validation compares with the clean picture, which does not exist when you really denoise" in caplog.text
    train, validation, _ = targets(task)
    assert bool(seen(train).all())
    assert torch.equal(validation, CLEAN)


def test_each_seed_draws_its_own_and_the_same_again() -> None:
    first = picture_task("x", CLEAN, True, HOW)
    again = picture_task("x", CLEAN, True, HOW)
    other = picture_task("x", CLEAN, True, Degraded(0.1, 1.0, 0.25, 4, 1))
    assert digest(first) == digest(again) != digest(other)
    # The pixels that are held out do not depend on how noisy they are, nor the noise on how many are held out.
    less = targets(picture_task("x", CLEAN, True, Degraded(0.05, 1.0, 0.25, 4, 0)))
    assert torch.equal(seen(less[0]), seen(targets(first)[0]))
    fewer = targets(picture_task("x", CLEAN, True, Degraded(0.1, 1.0, 0.1, 4, 0)))[0]
    both = seen(fewer) & seen(targets(first)[0])
    assert torch.equal(fewer[:, both], targets(first)[0][:, both])


def test_a_picture_that_is_noisy_itself_has_no_test(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, logger="prune_search"):
        task = picture_task("x", CLEAN, False, Degraded(0.0, 1.0, 0.25, 4, 0))
    assert task.test is None
    assert "there is no clean one to test against" in caplog.text
    train, validation = task.train[1][0], task.validation[1][0]
    assert torch.equal(torch.where(train != IGNORED, train, validation), CLEAN)


@pytest.mark.parametrize(
    ("how", "known", "message"),
    [
        (Degraded(0.1, 0.001, 0.1, 4, 0), True, "task.data.keep: leaves no pixel for training: 0 are known"),
        (
            Degraded(0.1, 1.0, 0.999, 4, 0),
            True,
            "task.data.held_out: leaves no pixel for training: 64 are known, and 64",
        ),
        (Degraded(0.1, 1.0, 0.001, 4, 0), True, "task.data.held_out: 0.001 of 64 known pixels are less than one pixel"),
        (Degraded(0.0, 1.0, None, 4, 0), False, "task.data.validate: clean needs a clean picture"),
    ],
)
def test_what_cannot_be_validated_or_trained_names_the_key(how: Degraded, known: bool, message: str) -> None:
    with pytest.raises(UserError, match=message):
        picture_task("x", CLEAN, known, how)


def test_psnr_of_held_out_pixels_is_the_hand_formula_over_them_alone() -> None:
    task = picture_task("x", CLEAN, True, HOW)
    target = task.validation[1]
    outputs = torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(3))
    errors = [
        (float(outputs[0, c, y, x]) - float(target[0, c, y, x])) ** 2
        for c in range(3)
        for y in range(8)
        for x in range(8)
        if float(target[0, c, y, x]) != IGNORED
    ]
    assert len(errors) == 48
    mean = sum(errors) / len(errors)
    named = Named.of(TASK_METRICS, {"data_range": 1.0, **task.metrics["psnr"]})  # type: ignore[call-overload,index]
    tally: Any = named.entry(TASK_METRICS).make("numbers", 3, **named.options)
    tally.update(Seen(outputs, None, target, 1, 0.0))
    assert tally.value() == pytest.approx(10 * math.log10(1.0 / mean), rel=1e-5)
    assert isinstance(task.loss, dict)
    loss = LOSSES["mse"].make(outputs, target, ignore_value=task.loss["ignore_value"])
    assert float(loss) == pytest.approx(mean, rel=1e-5)
