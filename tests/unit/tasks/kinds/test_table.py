"""From the columns of a table to inputs and targets."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy
import pytest
import torch

from prune_search.recipe.problems import UserError
from prune_search.tasks.kinds.table import Columns, Encoded, Reading, encoded
from prune_search.tasks.kinds.table_files import read_table

TRAIN = "age,town,same,y\n1,Rome,7,no\n2,Bonn,7,yes\n3,Rome,7,no\n6,,7,yes\n"
OTHER = "y,town,age,same\nyes,Oslo,3,8\nno,Rome,,7\n"


def files(folder: Path, **texts: str) -> dict[str, tuple[Path, Columns]]:
    found: dict[str, tuple[Path, Columns]] = {}
    for part, text in texts.items():
        path = folder / f"{part}.csv"
        path.write_text(text)
        found[part] = (path, read_table(path, "k"))
    return found


def made(folder: Path, reading: Reading, share: float = 0.25, **texts: str) -> Encoded:
    return encoded(files(folder, **texts), reading, share)


def problems(folder: Path, reading: Reading, share: float = 0.25, **texts: str) -> list[str]:
    with pytest.raises(UserError) as caught:
        made(folder, reading, share, **texts)
    return [str(problem).replace(str(folder), "") for problem in caught.value.problems]


def test_numbers_are_standardised_by_the_training_rows_and_texts_are_one_hot(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "prune_search"):
        table = made(tmp_path, Reading("y", missing="mean"), train=TRAIN, validation=OTHER)
    assert table.classes == ("no", "yes")
    assert table.features == ("age", "town=Bonn", "town=Rome", "same")
    assert caplog.messages == ["table: column 'same' is the same in all training rows: it becomes 0"]
    deviation = numpy.std([1, 2, 3, 6])
    inputs, labels = table.parts["train"]
    assert (inputs.dtype, labels.dtype) == (torch.float32, torch.int64)
    assert torch.allclose(inputs[:, 0], torch.tensor([-2, -1, 0, 3]) / float(deviation))
    assert inputs[:, 1:].tolist() == [[0, 1, 0], [1, 0, 0], [0, 1, 0], [0, 0, 0]]
    assert labels.tolist() == [0, 1, 0, 1]
    # The other file has its columns in another order, a town of its own and an empty age, which is the mean.
    inputs, labels = table.parts["validation"]
    assert inputs.tolist() == [[0, 0, 0, 0], [0, 0, 1, 0]]
    assert labels.tolist() == [1, 0]
    assert "test" not in table.parts


def test_codes_are_one_number_a_column(tmp_path: Path) -> None:
    reading = Reading("y", drop=("same", "age"), missing="mean", categories="codes")
    table = made(tmp_path, reading, train=TRAIN, validation=OTHER)
    assert table.features == ("town",)
    assert table.parts["train"][0].flatten().tolist() == [2, 1, 2, 0]
    assert table.parts["validation"][0].flatten().tolist() == [0, 2]


ROWS = "x,y\n" + "".join(f"{n},{n % 2}\n" for n in range(40))


def test_what_has_no_file_is_held_out_stratified_and_always_the_same(tmp_path: Path) -> None:
    one, two = (made(tmp_path, Reading("y", "classification"), train=ROWS) for _ in range(2))
    assert {part: len(labels) for part, (_, labels) in one.parts.items()} == {"train": 20, "validation": 10, "test": 10}
    for part, (inputs, labels) in one.parts.items():
        assert torch.bincount(labels).tolist() == [len(labels) // 2] * 2
        assert torch.equal(inputs, two.parts[part][0])
    assert set(made(tmp_path, Reading("y", "classification"), train=ROWS, test=ROWS).parts) == {
        "train",
        "validation",
        "test",
    }
    (message,) = problems(tmp_path, Reading("y", "classification"), 0.001, train=ROWS)
    assert message == "task.data.split: 0.001 of 40 rows cannot be held out for test and validation each"


def test_the_task_is_taken_from_the_target_and_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "prune_search"):
        whole = made(tmp_path, Reading("y"), train=ROWS)
        real = made(tmp_path, Reading("x"), train=ROWS)
    assert (whole.classes, real.classes) == (("0", "1"), ())
    assert caplog.messages == [
        "table: column 'y' is treated as classes, because it holds 2 different numbers, all of them whole; "
        "write task: classification to confirm",
        "table: column 'x' is treated as a number to predict, because it holds 40 different numbers; "
        "write task: regression to confirm",
    ]
    assert {(target.shape[1:], target.dtype) for _, target in real.parts.values()} == {((1,), torch.float32)}
    scaled = made(tmp_path, Reading("x", "regression", scale_target=True), train=ROWS).parts["train"][1]
    assert torch.allclose(torch.stack([scaled.mean(), scaled.std(correction=0)]), torch.tensor([0.0, 1.0]), atol=1e-6)


def test_everything_that_is_wrong_with_the_columns_is_said_at_once(tmp_path: Path) -> None:
    assert problems(tmp_path, Reading("z", drop=("aeg",)), train=TRAIN) == [
        "task.data.target: /train.csv has no column 'z'; it has age, town, same, y",
        "task.data.drop: /train.csv has no column 'aeg' (did you mean 'age'?); it has age, town, same, y",
        "task.data.file: /train.csv: column 'town' is empty in 1 of 4 rows, the first of them row 4 "
        "(missing: mean fills them)",
    ]
    assert problems(tmp_path, Reading("y"), train="a,y\n1,p\n2,q\n", test="a,y\nx,r\n", validation="y\np\n") == [
        "task.data.test: /test.csv: column 'a' holds texts such as 'x', but numbers in the training file",
        "task.data.validation: /validation.csv has no column 'a', which the training file has",
    ]
    real, filled = Reading("y", "regression"), Reading("y", missing="mean")
    for text, reading, key, message in (
        ("a,y\n1,p\n2,p\n", Reading("y"), "target", "'y' has one class only, 'p': there is nothing to predict"),
        ("a,y\n1,p\n2,q\n", real, "task", "'y' holds texts such as 'p', which are not numbers"),
        ("y\n1\n2\n", Reading("y"), "file", "/train.csv has no column besides the target to predict from"),
        ("a,y\n1,\n2,q\n", filled, "file", "'y' is empty in 1 of 2 rows, the first of them row 1"),
        ("a,b,y\n1,,p\n2,,q\n", filled, "file", "'b' is empty: leave it out with drop"),
        ("a,y\n1,3\n2,3\n3,3\n4,3\n", real, "target", "'y' is the same in all training rows"),
    ):
        (said,) = problems(tmp_path, reading, train=text)
        assert said.startswith(f"task.data.{key}: ")
        assert said.endswith(message)
    many = "t,y\n" + "".join(f"t{n},{n % 2}\n" for n in range(1200))
    (message,) = problems(tmp_path, Reading("y", "classification"), train=many)
    assert message.endswith("has 1200 different texts: leave it out with drop, or write categories: codes")
    (message,) = problems(tmp_path, Reading("y"), train="a,y\n1,p\n2,q\n", validation="a,y\n1,r\n")
    assert message == "task.data.validation: /validation.csv: the training file has no class 'r'"
