"""What is wrong with a task is found before anything is trained, and what fits is chosen where nothing is named."""

from __future__ import annotations

import logging
import math
from contextlib import nullcontext
from typing import Any

import pytest
import torch
from made_tasks import bert, imbalanced, perceptron
from torch import Tensor, nn
from wrong_tasks import INPUTS, LABELS, task

from prune_search.recipe.problems import UserError
from prune_search.tasks.task import Task
from prune_search.tasks.task_checks import check_examples, fitted_task
from prune_search.tasks.task_data import TaskData, read_task


def read(given: Task) -> TaskData:
    data, wrong = read_task("mine", given)
    assert (wrong, data is not None) == ([], True)
    assert data is not None
    return data


def fitted(given: Task, model: nn.Module | None = None) -> TaskData:
    data = read(given)
    made = given.model() if model is None and given.model is not None else model
    assert made is not None
    return fitted_task(data, data.usage.rules.adapted(made))


class WithLoss(nn.Module):
    """Returns its own loss."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = perceptron(6, 3)

    def forward(self, inputs: Tensor, labels: Tensor | None = None) -> dict[str, Any]:
        scores = self.inner(inputs)
        loss = None if labels is None else 3 * nn.functional.cross_entropy(scores, labels)
        return {"logits": scores, "loss": loss}


def test_the_loss_is_the_networks_own_or_fits_the_targets() -> None:
    found = fitted(task())
    assert (found.target, list(found.metrics), dict(found.best)) == ("classes", ["accuracy"], {"accuracy": "maximize"})
    own = fitted(task(model=WithLoss, train={"inputs": INPUTS, "labels": LABELS}))
    assert (own.target, list(own.metrics)) == ("classes", ["accuracy"])
    assert own.loss is not None
    assert own.loss({"loss": torch.tensor(0.5)}, None) == 0.5
    numbers = fitted(task(train=(INPUTS, INPUTS[:, :3]), loss="huber"))
    assert (numbers.target, list(numbers.metrics), dict(numbers.best)) == ("numbers", ["mae"], {"mae": "minimize"})


def test_a_loss_of_ones_own_is_given_the_whole_batch() -> None:
    seen: list[Any] = []

    def loss(outputs: Tensor, batch: Any) -> Tensor:
        seen.append(batch)
        return nn.functional.cross_entropy(outputs, batch[1])

    found = fitted(task(loss=loss))
    assert [tuple(part.shape) for part in seen[0]] == [(4, 6), (4,)]
    assert (found.usage.whole, found.target, list(found.metrics)) == (True, "classes", ["accuracy"])


def test_the_network_is_left_as_it_was() -> None:
    model = nn.Sequential(nn.BatchNorm1d(6), nn.Dropout(0.5), nn.Linear(6, 3))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    drawn = torch.get_rng_state()
    fitted(task(), model)
    assert model.training
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert torch.equal(torch.get_rng_state(), drawn)


def test_metrics_that_a_few_examples_cannot_show_warn_nobody() -> None:
    assert list(fitted(imbalanced()).metrics) == ["auroc"]


def test_what_is_wrong_is_told_with_its_key_and_the_example() -> None:
    cases: list[tuple[Task, nn.Module | None, str]] = [
        (task(train=(INPUTS, LABELS + 1)), None, r"task: train: the target of example \d+ is 3, and the network has 3"),
        (
            task(metrics={"a": lambda o, b: o, "b": lambda o, b: 1 / 0}),
            None,
            r"task\.metrics\.a: .*\n.*task\.metrics\.b",
        ),
        (task(loss="distillation"), None, "is for retrainings"),
        (task(loss="mse"), None, "the loss does not accept outputs"),
        (task(train=INPUTS), None, "train must be"),
        (task(), perceptron(5, 3), "the network does not accept a batch"),
    ]
    for given, model, said in cases[:4] + cases[5:]:
        with pytest.raises(UserError) as told:
            fitted(given, model)
        import re

        assert re.search(said, "\n".join(map(str, told.value.problems))), (said, told.value.problems)


def test_all_of_arrays_and_some_of_other_examples_are_looked_at() -> None:
    inputs = torch.zeros(9000, 2)
    inputs[8123, 1] = float("inf")
    data = read(Task(None, (inputs, torch.arange(9000) % 2), (INPUTS, LABELS)))
    assert check_examples(data) == ["train: example 8123 holds NaN or infinite values"]
    assert check_examples(read(task())) == []


@pytest.mark.slow
def test_a_network_of_transformers_brings_its_loss() -> None:
    pytest.importorskip("transformers")
    found = fitted(bert())
    assert (found.target, list(found.metrics)) == ("classes", ["accuracy"])


@pytest.mark.parametrize(
    ("labels", "classes", "last", "said"),
    [
        ([0, 1, 2], 3, nn.Identity(), ""),
        ([0, 1, 2], 3, nn.Softmax(dim=-1), "its outputs are probabilities"),
        ([1, 2, 3], 4, nn.Identity(), "the training labels begin at 1"),
        ([0, 1, 4], 6, nn.Identity(), "of 6 classes 3 never occur in the training labels: 2, 3, 5"),
    ],
)
def test_odd_labels_and_outputs_of_a_task_are_warned_of(
    labels: list[int], classes: int, last: nn.Module, said: str, caplog: pytest.LogCaptureFixture
) -> None:
    inputs, targets = torch.randn(24, 5), torch.tensor(labels).repeat(8)
    fitted(Task(train=(inputs, targets), test=(inputs, targets)), nn.Sequential(nn.Linear(5, classes), last))
    assert len(caplog.messages) == bool(said)
    assert said in "".join(caplog.messages)


def test_examples_of_many_parts_are_told_briefly() -> None:
    many = ([tuple(range(400)), tuple(range(401))] * 4, None)
    wrong = check_examples(read(Task(train=many[0], test=many[0])))
    assert wrong
    assert all(len(text) < 500 for text in wrong)


def test_a_metric_that_changes_what_it_is_given_is_told_by_name() -> None:
    def outputs(scores: Tensor, batch: Any) -> float:
        return float(scores.sigmoid_().mean())

    def batch(scores: Tensor, batch: Any) -> float:
        batch[1].numpy()[:] = 0
        return 1.0

    for metric, what in ((outputs, "outputs"), (batch, "batch")):
        with pytest.raises(UserError, match=rf"task\.metrics\.own: changes the {what} in place"):
            fitted(task(metrics={"own": metric}))


def test_a_metric_that_is_no_number_is_told_with_its_name_and_part(caplog: pytest.LogCaptureFixture) -> None:
    given = task(metrics={"own": lambda outputs, batch: float("inf") if len(batch[0]) == 4 else float("nan")})
    with caplog.at_level(logging.WARNING, "prune_search"):
        data = fitted(given, model := perceptron(6, 3))
        for _ in range(2):
            found = data.scores(model, data.validation, 3, nullcontext)
    assert math.isnan(found["own"])
    assert caplog.messages == [
        "task mine: metric own is inf on the first 4 examples: if it is so on all of them, no trial can be "
        "ranked by it",
        "task mine: metric own is nan on the validation examples, so that this network cannot be ranked by it",
    ]
