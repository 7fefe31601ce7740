"""Metrics of calibration of a network on a data set of arrays."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import pytest
import torch
from torch import nn

from prune_search.recipe.axes import DATASETS, METRICS
from prune_search.recipe.metric_names import searchable
from prune_search.tasks.data import DataSet
from prune_search.tasks.metrics import Measured, at_the_end, evaluate, in_training

ASKED = ("val/nll", "val/ece", "val/brier")


def measured(taken: list[Mapping[str, object]]) -> Measured:
    torch.manual_seed(0)
    data = DATASETS["digits"].build(DataSet, None)
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))

    def take(what: Mapping[str, object], measure: Callable[[], Mapping[str, float]]) -> Mapping[str, float]:
        taken.append(what)
        return measure()

    return Measured({"validation": evaluate(model, data.validation)}, load=lambda: model, data=data, take=take)


def test_the_likelihood_is_the_loss_and_the_network_stays_in_its_mode() -> None:
    taken: list[Mapping[str, object]] = []
    one = measured(taken)
    assert METRICS["val/nll"].make(one) == pytest.approx(one.scores["validation"]["loss"], rel=1e-5)
    assert one.model is not None
    assert one.model.training
    assert taken[0]["kind"] == "calibration"


def test_what_a_task_has_measured_itself_is_not_measured_again() -> None:
    taken: list[Mapping[str, object]] = []
    known = Measured({"validation": {"ece": 0.25}}, take=measured(taken).take)
    assert METRICS["val/ece"].make(known) == 0.25
    assert not taken


def test_a_search_sees_them_and_they_are_taken_only_where_they_are_asked_for() -> None:
    assert set(ASKED) <= set(searchable())
    assert not set(ASKED) & set(at_the_end("validation"))
    assert set(ASKED) <= set(at_the_end("validation", ASKED))
    assert set(ASKED) <= set(in_training(ASKED))
    assert all(METRICS[name].facts.best == "minimize" for name in ASKED)
