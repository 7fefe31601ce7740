"""Iterations in an epoch: from the registry where the size is known, else from data that are read once."""

from __future__ import annotations

import logging
from dataclasses import replace

import pytest
import torch
from arrays import arrays
from made_tasks import endless

from prune_search.recipe.problems import UserError
from prune_search.recipe.recipe import Recipe
from prune_search.recipe.space import read_space
from prune_search.search.epochs import EpochLengths
from prune_search.tasks.data import DataSet
from prune_search.tasks.task import Task
from prune_search.trial import data_and_network
from prune_search.trial.data_and_network import Code
from prune_search.trial.setup import prepare


def recipe(data: str, batch: int) -> Recipe:
    return read_space({"preset": "snip", "task": {"data": data}, "train": {"batch": batch}}, "a test").only_recipe()


def test_a_known_size_needs_no_data(monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*given: object) -> DataSet:
        raise AssertionError("data were read")

    monkeypatch.setattr(data_and_network, "read_data", never)
    assert EpochLengths(None, Code())(recipe("digits", 100)) == 12
    with pytest.raises(UserError, match="is larger than the training set"):
        EpochLengths(None, Code())(recipe("digits", 100_000))


def test_an_epoch_of_a_stream_without_a_length_is_a_thousand_steps_and_it_is_said(
    caplog: pytest.LogCaptureFixture,
) -> None:
    name = "made_tasks:endless"
    found = recipe(name, 32)
    lengths = EpochLengths(None, Code(model=name, data=endless))
    with caplog.at_level(logging.WARNING, "prune_search"):
        assert [lengths(recipe(name, batch)) for batch in (32, 96)] == [1000, 1000]
        assert prepare(found, torch.device("cpu"), code=Code(data=name)).timeline.epoch == 1000
    said = "its stream does not say how many examples it has: an epoch (1ep) is taken to be 1000it"
    # Once for each of the two readings.
    assert caplog.messages == [f"task {name}: {said}"] * 2


def in_vain() -> Task:
    return replace(endless(), workers=2)


def test_workers_that_a_stream_has_no_use_for_are_named(caplog: pytest.LogCaptureFixture) -> None:
    code = Code(data=in_vain)
    with caplog.at_level(logging.WARNING, "prune_search"):
        data_and_network.read_data(recipe(code.named()["data"], 32), None, code)
    assert caplog.messages[1].endswith("its stream is read by the training process, and workers=2 is not used")


def test_own_data_are_read_once_for_all_recipes_and_only_where_they_are_allowed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    digits = arrays(data_and_network.read_data(recipe("digits", 100), None, Code()))
    read: list[str] = []

    def counting(made: Recipe, root: object, code: Code) -> DataSet:
        read.append(code.named()["data"])
        return digits

    with pytest.raises(UserError, match="custom code"):
        EpochLengths(None, Code())(recipe("own.data:make", 100))
    monkeypatch.setattr(data_and_network, "read_data", counting)
    lengths = EpochLengths(None, Code(data="own.data:make"))
    assert [lengths(recipe("own.data:make", batch)) for batch in (100, 200)] == [12, 6]
    assert read == ["own.data:make"]
    assert lengths.examples(recipe("own.data:make", 1)) == len(digits.train.labels)
