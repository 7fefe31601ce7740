"""A user's own data: every form that it may have, and everything that can be wrong with it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch
from arrays import arrays
from torch import nn

from prune_search.recipe.problems import UserError
from prune_search.tasks.data import DataSet, Split
from prune_search.tasks.user import build_user_data, factory_named, with_inputs_for
from prune_search.tasks.user_data import read_data


def pair(count: int, classes: int = 3, dtype: str = "float64") -> tuple[numpy.ndarray, numpy.ndarray]:
    return numpy.arange(count * 4).reshape(count, 4).astype(dtype), numpy.arange(count) % classes


def problems_of(returned: object) -> list[str]:
    with pytest.raises(UserError) as caught:
        built(lambda: returned)
    assert {problem.path for problem in caught.value.problems} == {"task.data"}
    return [problem.message.split("<lambda>: ", 1)[1] for problem in caught.value.problems]


def built(factory: Callable[..., Any]) -> DataSet:
    return arrays(build_user_data(factory, None))


def test_a_mapping_of_arrays_becomes_a_data_set() -> None:
    def letters() -> dict[str, object]:
        return {"train": pair(30), "validation": pair(6), "test": pair(9, dtype="uint8")}

    data = built(letters)
    assert [len(split) for split in data.splits.values()] == [30, 6, 9]
    assert (data.shape, data.classes) == ((4,), 3)
    assert data.name.endswith(":test_a_mapping_of_arrays_becomes_a_data_set.<locals>.letters")
    for split in data.splits.values():
        assert (split.inputs.dtype, split.labels.dtype) == (torch.float32, torch.int64)
        assert torch.equal(split.inputs, torch.arange(4.0 * len(split)).reshape(-1, 4))


def test_tensors_lists_and_read_only_arrays_do_as_well() -> None:
    inputs, labels = pair(10)
    inputs.setflags(write=False)
    data = built(
        lambda: {
            "train": [torch.arange(40).reshape(10, 4).half(), torch.arange(10, dtype=torch.uint8) % 3],
            "validation": (inputs, labels.astype(">i4")),
            "test": ([[1, 2, 3, 4]], [0]),
        }
    )
    assert torch.equal(data.train.inputs, data.validation.inputs)
    assert torch.equal(data.train.labels, data.validation.labels)
    assert data.test.inputs.tolist() == [[1.0, 2.0, 3.0, 4.0]]


def test_without_a_validation_split_a_tenth_of_the_training_examples_is_held_out() -> None:
    data = built(lambda: {"train": pair(60), "test": pair(9)})
    assert [len(split) for split in data.splits.values()] == [54, 6, 9]
    assert torch.bincount(data.validation.labels).tolist() == [2, 2, 2]
    both = torch.cat([data.train.inputs, data.validation.inputs])
    assert sorted(both[:, 0].tolist()) == [4.0 * place for place in range(60)]
    assert built(lambda: {"train": pair(60), "test": pair(9)}).digest == data.digest


def test_two_training_examples_are_enough_to_hold_one_out() -> None:
    data = built(lambda: {"train": pair(2, classes=1), "test": pair(1)})
    assert [len(split) for split in data.splits.values()] == [1, 1, 1]


def test_a_data_set_passes_as_it_is_under_the_factorys_name() -> None:
    split = Split(torch.zeros(2, 4), torch.tensor([0, 1]))
    given = DataSet("another name", split, split, split, classes=5)
    data = built(lambda: given)
    assert data.digest == given.digest
    assert data.classes == 5
    assert data.name.endswith("<lambda>")


def test_a_data_factory_gets_the_root_under_either_name(tmp_path: Path) -> None:
    seen: list[Path | None] = []

    def one(root: Path | None) -> dict[str, object]:
        seen.append(root)
        return {"train": pair(10), "test": pair(3)}

    def other(data_root: Path | None = None) -> dict[str, object]:
        return one(data_root)

    arrays(build_user_data(one, tmp_path))
    arrays(build_user_data(other, tmp_path))
    built(one)
    assert seen == [tmp_path, tmp_path, None]


def test_an_error_in_a_data_factory_is_told_by_its_line(here: Path) -> None:
    (here / "my_data.py").write_text("import json\n\ndef make(root):\n    return json.loads('{')\n")
    with pytest.raises(UserError) as caught:
        built(factory_named("my_data:make", "task.data"))
    message = str(caught.value).removeprefix("task.data: ")
    assert message.startswith("my_data:make raised JSONDecodeError: ")
    assert message.endswith(f"(line 4 of {here / 'my_data.py'})")


@pytest.mark.parametrize("returned", [None, 3, (pair(10), pair(3))])
def test_what_is_no_data_set_is_refused(returned: object) -> None:
    (message,) = problems_of(returned)
    assert message.startswith("it must return a DataSet or a mapping with the keys train, test")


def with_train(inputs: object, labels: object, **more: object) -> dict[str, object]:
    return {"train": (inputs, labels), "test": pair(3), **more}


INPUTS, LABELS = pair(10)


@pytest.mark.parametrize(
    ("returned", "message"),
    [
        ({"train": pair(10)}, "the key 'test' is missing: a pair of inputs and labels"),
        ({"test": pair(10)}, "the key 'train' is missing: a pair of inputs and labels"),
        ({"train": pair(10), "test": pair(3), "tset": 1}, "'tset' is not a key of a data set (did you mean 'test'?)"),
        ({"train": INPUTS, "test": pair(3)}, "train must be a pair of inputs and labels (got a value of type ndarray)"),
        (with_train(INPUTS, LABELS[:9]), "train has 10 inputs but 9 labels"),
        (with_train(INPUTS, LABELS.astype(float)), "train labels must be whole numbers (got float64)"),
        (with_train(INPUTS, torch.ones(10)), "train labels must be whole numbers (got torch.float32)"),
        (with_train(INPUTS.astype(complex), LABELS), "train inputs must be real numbers (got complex128)"),
        (with_train(torch.ones(10, 4) * 1j, LABELS), "train inputs must be real numbers (got torch.complex64)"),
        (with_train(INPUTS.astype(str), LABELS), "train inputs must be real numbers (got <U32)"),
        (with_train(INPUTS, LABELS.reshape(5, 2)), "train labels must have one dimension (got shape (5, 2))"),
        (
            with_train(LABELS, LABELS),
            "train inputs must have an example dimension and at least one more (got (10,))",
        ),
        (with_train(INPUTS * numpy.nan, LABELS), "train inputs contain values that are not finite"),
        (with_train(INPUTS + 1e300, LABELS), "train inputs contain values that are not finite as float32"),
        (with_train(INPUTS[:0], LABELS[:0]), "train has no examples (inputs (0, 4), labels (0,))"),
        (with_train(INPUTS, LABELS - 1), "labels must be 0 or more (got -1)"),
        (with_train(INPUTS, LABELS, classes=2), "train labels must be 0 … 1 for 2 classes (got 2)"),
        (with_train(INPUTS, LABELS * 10**9), "2000000001 classes are more than 100000; labels must be numbered from 0"),
        (with_train(INPUTS, LABELS, classes=0), "'classes' must be a positive whole number (got 0)"),
        (with_train(INPUTS, LABELS, classes="3"), "'classes' must be a positive whole number (got '3')"),
        (with_train(INPUTS, LABELS, test=pair(9, classes=4)), "test labels must be 0 … 2 for 3 classes (got 3)"),
        (with_train(INPUTS[:, :3], LABELS), "an example of test has the shape (4,), but an example of train has (3,)"),
        (with_train(*pair(1)), "train has a single example, so no validation split can be held out"),
        (with_train([[1, 2], [3]], [0, 1]), "train inputs are not an array: "),
    ],
)
def test_what_is_wrong_with_data_is_told(returned: object, message: str) -> None:
    assert any(found.startswith(message) for found in problems_of(returned)), problems_of(returned)


def test_everything_that_is_wrong_is_told_at_once() -> None:
    returned = {"train": (INPUTS + numpy.inf, LABELS[:3]), "validation": 3, "test": pair(0), "more": 1}
    assert len(problems_of(returned)) == 5


@pytest.mark.parametrize(
    ("labels", "classes", "remark"),
    [
        ([1, 2, 3, 1, 2, 3], None, "the training labels begin at 1"),
        ([0, 1, 4, 0, 1, 4], None, "of 5 classes 2 never occur in the training labels: 2, 3"),
        (
            [0, 1, 0, 1, 0, 1],
            40,
            "of 40 classes 38 never occur in the training labels: 2, 3, 4, 5, 6, 7, 8, 9, 10, 11 …",
        ),
        ([0, 0, 0, 0, 0, 0], None, "there is only one class"),
        ([0, 1, 2, 0, 1, 2], None, None),
    ],
)
def test_what_is_odd_about_labels_is_said(
    labels: list[int], classes: int | None, remark: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    split = (torch.zeros(6, 2), torch.tensor(labels))
    found, wrong = read_data("mine", {"train": split, "test": split, **({"classes": classes} if classes else {})})
    assert found is not None, wrong
    assert [message.removeprefix("mine: ").startswith(str(remark)) for message in caplog.messages] == (
        [True] if remark else []
    )


# --- integers -----------------------------------------------------------------------------------------------------


def test_integers_stay_integers_and_count_in_the_key_as_the_floats_that_they_were() -> None:
    ids = torch.randint(9, (30, 4), generator=torch.Generator().manual_seed(0))
    labels = torch.arange(30) % 3
    whole = built(lambda: {"train": (ids, labels), "test": (ids, labels), "classes": 3})
    parts = built(lambda: {"train": (ids.float(), labels), "test": (ids, labels), "classes": 3})
    assert (whole.train.inputs.dtype, parts.test.inputs.dtype) == (torch.int64, torch.float32)
    assert whole.digest == parts.digest == whole.with_inputs(torch.float32).digest


def test_a_network_is_given_integers_where_it_takes_them_and_else_float32_with_a_word() -> None:
    data = built(lambda: {"train": pair(30, dtype="uint8"), "test": pair(9, dtype="uint8")})
    assert data.of_integers
    taken = with_inputs_for(nn.Sequential(nn.Embedding(256, 2), nn.Flatten()), data)
    assert taken.train.inputs.dtype == torch.int64
    with pytest.warns(UserWarning, match="so they become float32"):
        assert with_inputs_for(nn.Linear(4, 3), data).train.inputs.dtype == torch.float32
