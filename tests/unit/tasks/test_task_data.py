"""The splits of a task: every form that data can have, the share held out, digests, and what is measured."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch
from made_tasks import Counted, Labelled, Pairs, perceptron, regression
from torch import nn
from torch.utils.data import DataLoader, Dataset, TensorDataset

from prune_search.tasks.examples import Held, Listed
from prune_search.tasks.streams import Streamed
from prune_search.tasks.task import Task
from prune_search.tasks.task_checks import fitted_task
from prune_search.tasks.task_data import TaskData, read_task

INPUTS, CLASSES = torch.randn(100, 4), torch.arange(100) % 5


def read(task: Task) -> TaskData:
    data, wrong = read_task("mine", task)
    assert wrong == []
    assert data is not None
    return data


def problems(task: Task) -> list[str]:
    data, wrong = read_task("mine", task)
    assert data is None
    return wrong


class Named(Dataset[tuple[Any, int]]):
    """Pictures with their classes listed, as torchvision's data sets have them."""

    def __init__(self, classes: torch.Tensor) -> None:
        self.targets = classes.tolist()
        self.classes = ["a", "b", "c", "d", "e"]

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        return torch.full((4,), float(index)), self.targets[index]


class Noted(Labelled):
    """Notes which examples were read."""

    def __init__(self, count: int, seed: int) -> None:
        super().__init__(count, seed)
        self.asked: list[int] = []

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        self.asked.append(index)
        return super().__getitem__(index)


def test_every_form_of_data_is_read() -> None:
    pair = (INPUTS, CLASSES)
    for given, kind in (
        (pair, Held),
        ([INPUTS, CLASSES], Held),
        ((INPUTS.numpy(), CLASSES.numpy()), Held),
        ({"a": INPUTS, "labels": CLASSES}, Held),
        (TensorDataset(*pair), Held),
        (Named(CLASSES), Listed),
        (DataLoader(Named(CLASSES), batch_size=7, num_workers=2), Listed),
        (Counted(9, 0), Streamed),
    ):
        data = read(Task(None, given, pair))
        assert type(data.train) is kind
        assert type(data.validation) is Held
        assert list(data.splits) == ["train", "validation"]
        assert data.split("test") is None
    loaded = read(Task(None, DataLoader(Named(CLASSES), num_workers=2), pair)).train
    assert isinstance(loaded, Listed)
    assert loaded.workers == 2
    assert list(read(Task(None, pair, pair, pair)).splits) == ["train", "validation", "test"]


def test_types_stay_but_float64_of_numpy_and_memory_is_shared() -> None:
    whole = numpy.arange(12).reshape(6, 2)
    array = numpy.ones((6, 2), dtype=numpy.float64)
    train = read(Task(None, {"whole": whole, "given": array, "labels": CLASSES[:6]}, 0.5)).train
    assert isinstance(train, Held)
    assert (train.content["whole"].dtype, train.content["given"].dtype) == (torch.int64, torch.float32)
    mapped = numpy.ones((6, 2), dtype=numpy.float32)
    mapped.flags.writeable = False
    held = read(Task(None, (mapped, CLASSES[:6]), (INPUTS, CLASSES))).train
    assert isinstance(held, Held)
    mapped.flags.writeable = True
    mapped[0] = 7
    assert held.content[0][0].tolist() == [7, 7]
    turned = read(Task(None, (numpy.arange(12.0, dtype=">f4").reshape(6, 2)[::-1], CLASSES[:6]), 0.5)).train.first(1)
    assert isinstance(turned, torch.Tensor)
    assert turned.dtype == torch.float32


def test_the_share_held_out_is_stratified_and_the_same_each_time() -> None:
    for train in ((INPUTS, CLASSES), Named(CLASSES)):
        data = read(Task(None, train, 0.2))
        assert (len(data.train), len(data.validation), data.held_out, data.classes) == (80, 20, True, 5)
        held, rest = data.validation.head(99), data.train.head(99)
        assert held[1].bincount().tolist() == [4] * 5
        assert torch.equal(held[0], read(Task(None, train, 0.2)).validation.head(99)[0])
        together = torch.cat([held[0], rest[0]])
        assert len(set(map(tuple, together.tolist()))) == 100
        labels = data.class_labels()
        assert labels is not None
        assert torch.equal(labels, rest[1])
    numbers = read(Task(None, (INPUTS, INPUTS[:, 0]), 0.2))
    assert (len(numbers.train), len(numbers.validation), numbers.classes) == (80, 20, 0)
    assert numbers.class_labels() is None


def test_what_is_wrong_is_told_all_at_once() -> None:
    assert problems(Task(None, None)) == [
        "train is missing: a Dataset, a pair of arrays, or a stream with state_dict and load_state_dict"
    ]
    several = problems(Task(model="net", train=(INPUTS, CLASSES[:9]), workers=-1, loss="msse", metrics=["f2"]))  # type: ignore[arg-type]
    assert [text.partition(" ")[0] for text in several] == ["model", "workers", "loss:", "metrics.f2:", "train:"]
    assert "did you mean 'mse'" in several[2]
    assert several[4] == "train: its arrays have 9, 100 examples, and must have equally many"
    for share in (0.0, 1, -0.5, 2.0):
        assert problems(Task(None, (INPUTS, CLASSES), share)) == [
            f"validation must be a Dataset, or a share above 0 and below 1 (got {share:g})"
        ]
    assert problems(Task(None, (INPUTS[:1], CLASSES[:1]))) == [
        "train has 1 example, so none can be held out for validation"
    ]
    assert problems(Task(None, Counted(9, 0))) == [
        "validation: no share of a stream can be held out: give a separate data set"
    ]
    assert problems(Task(None, (INPUTS, CLASSES), (INPUTS[:0], CLASSES[:0]))) == ["validation has no examples"]
    (text,) = problems(Task(None, (one for one in [INPUTS]), (INPUTS, CLASSES)))
    assert text.startswith("train: a stream of type generator has no state_dict and load_state_dict")
    (text,) = problems(Task(None, 3, (INPUTS, CLASSES)))
    assert text.endswith("(got a value of type int)")
    (text,) = problems(Task(None, (INPUTS, numpy.array([{}] * 100, dtype=object)), (INPUTS, CLASSES)))
    assert text.startswith(
        "train: one of its arrays cannot become a tensor: can't convert np.ndarray of type numpy.object_"
    )


def test_the_digest_changes_with_one_byte_and_with_nothing_else() -> None:
    base = regression()
    data = read(base)
    inputs, targets = (tensor.clone() for tensor in base.train)
    same = replace(base, train=(inputs, targets), workers=3, evaluate_batch=5, metrics=["mae"], test=base.test)
    assert read(same).digest == data.digest
    assert data.to("cpu").digest == data.digest
    inputs.view(torch.uint8)[7, 2] ^= 1
    others = [
        read(same),
        read(replace(base, loss="l1")),
        read(replace(base, loss={"name": "huber", "delta": 2.0})),
        read(replace(base, validation=0.25)),
        read(replace(base, forward=lambda model, batch: model(batch[0]))),
        read(replace(base, test=None)),
    ]
    digests = [other.digest for other in others]
    assert len({data.digest, *digests}) == 7
    assert read(replace(base, metrics=["mae"])).metrics_digest != data.metrics_digest


def test_examples_are_looked_at_once_for_the_digest_whatever_becomes_of_the_data() -> None:
    seen = Noted(20, 0)
    data = read(Task(None, seen, Labelled(9, 1), loss="binary-cross-entropy"))
    before = data.digest
    first = len(seen.asked)
    assert first >= 20
    fitted = fitted_task(data, perceptron(6, 4)).to("cpu")
    shown = len(seen.asked)
    assert fitted.looked_at == "all 20 examples"
    assert fitted.digest == before
    assert len(seen.asked) == shown


def test_what_the_digest_has_looked_at_is_said(tmp_path: Path) -> None:
    assert read(regression()).looked_at == "all bytes"
    assert read(Task(None, Labelled(40, 0), 0.5)).looked_at == "all 20 examples"
    assert read(Task(None, Labelled(900, 0), Labelled(9, 1))).looked_at == "256 of 900 examples, at even distances"
    assert read(Task(None, Labelled(900, 0), 0.5, digest="v1")).looked_at == "as the task gives it"


def test_scores_do_not_depend_on_the_batch_and_count_ignored_targets_for_nothing() -> None:
    maps, pixels = torch.randn(12, 3, 4, 4), torch.randint(3, (12, 4, 4))
    pixels[:, 0] = 255
    loss = {"name": "cross-entropy", "ignore_index": 255}
    task = Task(None, (maps, pixels), (maps, pixels), loss=loss, metrics=["accuracy", "f1"])
    net = nn.Conv2d(3, 3, 1)
    data = fitted_task(read(task), net)
    right = (net(maps).argmax(1) == pixels)[:, 1:].float().mean()
    for batch in (12, 4):
        found = data.scores(net, data.validation, batch, torch.no_grad)
        assert list(found) == ["accuracy", "f1", "loss"]
        assert found["accuracy"] == pytest.approx(float(right))


def test_the_shape_and_kind_of_the_inputs() -> None:
    pairs = read(Task(None, Pairs(20, 0), 0.2))
    assert (pairs.shape, pairs.of_integers) == ((), True)
    table = read(regression())
    assert (table.shape, table.of_integers) == ((6,), False)


def test_smoothing_is_for_cross_entropy_only() -> None:
    data = fitted_task(read(Task(None, (INPUTS, CLASSES))), perceptron(4, 5))
    smoothed = data.smoothed(0.3)
    assert smoothed is not None
    scores = torch.randn(9, 5)
    wanted = nn.functional.cross_entropy(scores, CLASSES[:9], label_smoothing=0.3)
    assert torch.equal(smoothed(scores, CLASSES[:9]), wanted)
    assert fitted_task(read(regression()), perceptron(6, 1)).smoothed(0.3) is None


def test_columns_of_a_table_are_arrays() -> None:
    pandas = pytest.importorskip("pandas")
    table = pandas.DataFrame({"width": [1.0, 2.0, 3.0, 4.0], "height": [5.0, 6.0, 7.0, 8.0], "kind": [0, 1, 0, 1]})
    data, wrong = read_task("table", Task(train=(table[["width", "height"]], table["kind"]), validation=0.5))
    assert data is not None, wrong
    inputs, labels = data.train.head(2)
    assert (inputs.dtype, labels.dtype, tuple(inputs.shape)) == (torch.float32, torch.int64, (2, 2))


def test_a_list_of_examples_is_a_data_set() -> None:
    data, wrong = read_task("list", Task(train=[(torch.ones(3), number % 2) for number in range(6)]))
    assert data is not None, wrong
    assert len(data.train) + len(data.validation) == 6
