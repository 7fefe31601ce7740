"""What sums metrics up: means over examples, torchmetrics', and functions of one's own."""

from __future__ import annotations

from typing import Any

import numpy
import pytest
import torch
import torchmetrics

from prune_search.tasks.tallies import FromLibrary, Mean, Seen, classified, shifted, users_function


def seen(outputs: Any, target: Any = None, count: int = 2, loss: float = 0.0) -> Seen:
    return Seen(outputs, (outputs, target), target, count, loss)


def test_a_mean_weighs_batches_by_what_they_count() -> None:
    mean = Mean(lambda one: (one.loss * one.count, one.count), lambda value: value + 1)
    mean.update(seen(None, count=3, loss=2.0))
    mean.update(seen(None, count=1, loss=6.0))
    assert mean.value() == 1 + (3 * 2 + 6) / 4
    empty = Mean(lambda one: (0.0, 0.0)).value()
    assert empty != empty


def test_a_function_of_ones_own_is_the_mean_over_the_examples_and_must_give_a_number() -> None:
    tally = users_function(lambda outputs, batch: outputs.mean())
    tally.update(seen(torch.tensor([1.0, 3.0]), count=2))
    tally.update(seen(torch.tensor([8.0]), count=1))
    assert tally.value() == pytest.approx((2 * 2 + 8) / 3)
    for value, said in ((torch.zeros(2), r"a tensor \[2\]"), ("x", "a str"), (True, "a bool"), (None, "a NoneType")):
        with pytest.raises(TypeError, match=said):
            users_function(lambda outputs, batch, value=value: value).update(seen(None))


def test_a_metric_of_the_library_is_made_once_and_must_give_one_number() -> None:
    made = []

    def make(scores: torch.Tensor, targets: torch.Tensor) -> Any:
        made.append(scores.shape)
        return torchmetrics.MeanMetric()

    tally = FromLibrary(make, lambda scores, targets: (scores, torch.ones_like(scores)))
    tally.update(seen(torch.tensor([1.0, 3.0]), torch.zeros(2)))
    tally.update(seen(torch.tensor([5.0]), torch.zeros(1)))
    assert (tally.value(), made) == (3.0, [(2,)])
    several = FromLibrary(lambda scores, targets: torchmetrics.classification.MulticlassF1Score(3, average=None))
    several.update(seen(torch.eye(3), torch.arange(3)))
    with pytest.raises(TypeError, match=r"MulticlassF1Score gives a tensor \[3\], and one number is needed"):
        several.value()


def test_scores_are_the_logits_in_32_bits_at_least() -> None:
    assert seen({"logits": torch.ones(2, dtype=torch.bfloat16), "hidden": torch.ones(3)}).scores.dtype == torch.float32
    assert seen(torch.ones(2, dtype=torch.float64)).scores.dtype == torch.float64


def test_places_are_examples_and_ignored_ones_are_left_out() -> None:
    scores = torch.randn(2, 3, 4, 5)
    targets = torch.randint(3, (2, 4, 5))
    targets[0, 1, 2] = -100
    found, labels = classified(scores, targets)
    kept = targets.flatten() != -100
    assert torch.equal(labels, targets.flatten()[kept])
    assert torch.equal(found, scores.permute(0, 2, 3, 1).reshape(-1, 3)[kept])
    last, _ = classified(scores.movedim(1, -1), targets)
    assert torch.equal(last, found)


def test_tokens_are_predicted_from_those_before_them() -> None:
    scores, tokens = torch.randn(2, 5, 7), torch.randint(7, (2, 5))
    found, labels = shifted(scores, tokens)
    assert torch.equal(labels, torch.cat([tokens[0, 1:], tokens[1, 1:]]))
    assert torch.equal(found, torch.cat([scores[0, :-1], scores[1, :-1]]))


@pytest.mark.parametrize("number", [0.25, numpy.float32(0.25), numpy.array([0.25]), torch.tensor([[0.25]])])
def test_a_number_of_any_kind_is_one(number: Any) -> None:
    tally = users_function(lambda outputs, batch: number)
    tally.update(Seen(None, None, None, 3, 0.0))
    assert tally.value() == 0.25


def test_several_numbers_are_refused() -> None:
    with pytest.raises(TypeError, match=r"a ndarray \[2\]"):
        users_function(lambda outputs, batch: numpy.zeros(2)).update(Seen(None, None, None, 3, 0.0))
