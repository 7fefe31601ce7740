"""Losses and metrics of a task, by name or as functions."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torchmetrics
from torch import Tensor

from prune_search.recipe.problems import UserError
from prune_search.tasks.tallies import Seen
from prune_search.tasks.task import Task
from prune_search.tasks.task_parts import loss_named, metrics_of, named_metrics

SCORES, TARGETS = torch.randn(8, 3), torch.arange(8) % 3


def mean_score(outputs: Tensor, batch: Any) -> Tensor:
    return outputs.mean()


def value(given: Any, target: Tensor = TARGETS, scores: Tensor = SCORES) -> tuple[float, str]:
    ((make, best),) = metrics_of(Task(metrics={"mine": given}), "classes", 3).values()
    figures = []
    for _ in range(2):
        tally = make()
        tally.update(Seen(scores, (scores, target), target, len(scores), 0.0))
        figures.append(tally.value())
    assert figures[0] == figures[1]
    return figures[0], best


def test_a_loss_is_a_name_with_its_options_or_a_function() -> None:
    assert loss_named(None) is None
    assert loss_named(mean_score) is None
    named = loss_named({"name": "huber", "delta": 2.0})
    assert named is not None
    assert (named.name, named.options["delta"]) == ("huber", 2.0)
    for wrong, said in (
        ("cross-entropi", "did you mean 'cross-entropy'"),
        ({"name": "huber", "delte": 2.0}, "did you mean 'delta'"),
        ({"name": "huber", "delta": -1}, "must be a number > 0"),
        (3, "got 3"),
    ):
        with pytest.raises(UserError, match=said):
            loss_named(wrong)


def test_metrics_are_named_one_by_one_or_in_a_list() -> None:
    assert named_metrics(Task()) == {}
    assert named_metrics(Task(metrics=["f1", "auroc"])) == {"f1": "f1", "auroc": "auroc"}
    assert named_metrics(Task(metrics="f1")) == {"f1": "f1"}
    assert named_metrics(Task(metrics={"score": mean_score})) == {"score": mean_score}


def test_every_form_of_a_metric_is_measured_and_knows_which_way_is_better() -> None:
    accuracy = float((SCORES.argmax(1) == TARGETS).float().mean())
    numbers = torch.randn(8)
    for given, wanted in (
        ("accuracy", (accuracy, "maximize")),
        (lambda: torchmetrics.classification.MulticlassAccuracy(3, average="micro"), (accuracy, "maximize")),
        (torchmetrics.classification.MulticlassAccuracy(3, average="micro"), (accuracy, "maximize")),
        (mean_score, (float(SCORES.mean()), "maximize")),
    ):
        found, best = value(given)
        assert found == pytest.approx(wanted[0], rel=1e-5)
        assert best == wanted[1]
    error = float((SCORES[:, 0] - numbers).abs().mean())
    one = torchmetrics.regression.MeanAbsoluteError
    smaller: tuple[Any, ...] = (one, lambda: one(), one(), {"name": "mae"})
    for given in smaller:
        found, best = value(given, numbers, SCORES[:, :1])
        assert found == pytest.approx(error, rel=1e-5)
        assert best == "minimize"


def test_a_wrong_metric_is_told_with_its_name() -> None:
    for metrics, said in (
        (["acuracy"], r"metrics\.acuracy: .*did you mean 'accuracy'"),
        ({"a b": "f1"}, "'a b' cannot be the name of a metric"),
        ({"a/b": "f1"}, "'a/b' cannot be the name of a metric"),
        ({"a>=b": "f1"}, "'a>=b' cannot be the name of a metric"),
        ({"loss": "f1"}, "'loss' cannot be the name of a metric"),
        ({"x": 3}, r"metrics\.x: must be a name, a factory"),
        ({"x": {"name": "psnr", "data_range": 0}}, r"metrics\.x"),
    ):
        with pytest.raises(UserError, match=said):
            metrics_of(Task(metrics=metrics), "classes", 3)
    with pytest.raises(UserError) as told:
        metrics_of(Task(metrics={"x": 3, "y": "f3"}), "classes", 3)
    assert len(told.value.problems) == 2


def test_a_collection_of_torchmetrics_is_its_metrics() -> None:
    given: Any = torchmetrics.MetricCollection({"far": torchmetrics.MeanAbsoluteError(), "r2": torchmetrics.R2Score()})
    found = metrics_of(Task(metrics=given), "numbers", 0)
    assert {name: best for name, (_, best) in found.items()} == {"far": "minimize", "r2": "maximize"}
