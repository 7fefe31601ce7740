"""From the rows of a data set to examples. The rows here are plain mappings: no package is needed."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import numpy
import pytest
import torch
from PIL import Image as Picture

from prune_search.recipe.problems import UserError
from prune_search.tasks.kinds import hf_rows
from prune_search.tasks.kinds.hf_rows import Columns, kind_of
from prune_search.tasks.kinds.image_transforms import Transform, coloured
from prune_search.tasks.kinds.look import Look


class Value:
    """As the library's feature of that name."""

    def __init__(self, dtype: str) -> None:
        self.dtype = dtype


class ClassLabel:
    """As the library's feature of that name."""

    num_classes = 3


class List:
    """As the library's feature of that name."""

    def __init__(self, feature: Any) -> None:
        self.feature = feature


FEATURES = {
    "text": Value("string"),
    "count": Value("int32"),
    "yes": Value("bool"),
    "size": Value("float64"),
    "label": ClassLabel(),
    "words": List(Value("large_string")),
    "tags": List(ClassLabel()),
    "ids": List(Value("int64")),
    "vector": List(Value("float32")),
}


def test_columns_are_told_apart_by_their_features() -> None:
    assert {name: kind_of(feature) for name, feature in FEATURES.items()} == {
        "text": "text",
        "count": "whole",
        "yes": "whole",
        "size": "number",
        "label": "class",
        "words": "words",
        "tags": "classes",
        "ids": "wholes",
        "vector": "array",
    }
    with pytest.raises(UserError) as caught:
        hf_rows.check_columns(Columns(("txt", "text"), "lable"), FEATURES, "hf-dataset/x")
    assert [str(problem).split(";")[0] for problem in caught.value.problems] == [
        "task.data.columns: hf-dataset/x has no column 'txt' (did you mean 'text'?)",
        "task.data.columns: hf-dataset/x has no column 'lable' (did you mean 'label'?)",
    ]


def test_targets_are_classes_or_numbers_by_their_column() -> None:
    def target(name: str, values: list[Any] | None = None) -> hf_rows.Target:
        class Rows:
            def __getitem__(self, key: Any) -> Any:
                return (values or []) if isinstance(key, str) else {name: (values or [])[key]}

        return hf_rows.target_of(Columns(("text",), name), FEATURES, None if values is None else Rows())

    assert (target("label").outputs, target("label").read(2)) == (3, 2)
    assert target("tags").outputs == 3
    assert (target("count", [0, 3, 1]).outputs, target("count", [0, 3, 1]).read(3)) == (4, 3)
    assert [target("text", ["b", "a", "b"]).read(word) for word in "ab"] == [0, 1]
    size = target("size", [0.5])
    assert (size.classes, size.outputs, size.read(0.5).tolist()) == (False, 1, [0.5])
    assert target("vector", [[0.5, 1.0]]).outputs == 2
    for name, values, message in (
        ("text", None, "the target 'text' holds text of a stream: cast it to ClassLabel"),
        ("count", [-1, 0], r"the target 'count' must be 0 or more .got -1"),
        ("words", [["a"]], "the target 'words' holds words: cast it to ClassLabel"),
    ):
        with pytest.raises(UserError, match=message):
            target(name, values)
    with pytest.raises(UserError, match=r"the training part has no class 'c' in 'text'"):
        target("text", ["b", "a"]).read("c")


def test_numbers_are_a_tensor_and_several_columns_a_mapping() -> None:
    row = {"vector": [1.0, 2.0], "count": 3, "label": 1}
    one = hf_rows.NumberExamples(Columns(("vector",), "label"), int, frozenset())
    inputs, label = one(row)
    assert (inputs.tolist(), inputs.dtype, label) == ([1.0, 2.0], torch.float32, 1)
    two = hf_rows.NumberExamples(Columns(("vector", "count"), "label"), int, frozenset(("count",)))
    example = two(row)
    assert set(example) == {"vector", "count", "labels"}
    assert (example["count"].dtype, example["count"].tolist()) == (torch.int64, [3])
    with pytest.raises(UserError, match=r"the column 'vector' is empty in some rows"):
        one({"vector": None, "label": 1})


def test_images_are_tensors_in_the_channels_that_are_asked_for() -> None:
    look = Look(8, 8, mean=(0.5,), std=(0.5,))
    made = hf_rows.ImageExamples(
        Columns(("image",), "label"), Transform(look, False), int, lambda image: coloured(image, look.channels)
    )
    image, label = made({"image": Picture.fromarray(numpy.full((9, 12, 3), 255, numpy.uint8)), "label": 2})
    assert (image.shape, float(image.min()), label) == ((1, 8, 8), 1.0, 2)


class Source:
    """A stream of rows with the library's way of keeping its place."""

    def __init__(self, rows: list[str]) -> None:
        self.rows, self.place, self.epoch, self.start = rows, 0, 0, {"place": 0, "epoch": 0}

    def __iter__(self) -> Iterator[dict[str, str]]:
        first = self.start["place"] if self.start["epoch"] == self.epoch else 0
        for place in range(first, len(self.rows)):
            self.place = place + 1
            yield {"text": self.rows[place]}

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def state_dict(self) -> dict[str, int]:
        return {"place": self.place, "epoch": self.epoch}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.start = state


@pytest.mark.parametrize("blocks", [True, False])
def test_a_stream_goes_on_where_its_state_was_taken_and_begins_anew_in_the_next_pass(blocks: bool) -> None:
    def made() -> Any:
        source = Source(["abcde", "fg", "", "hijklmn", "o", "pqrstuv"])
        if blocks:
            return hf_rows.TokenStream(source, lambda row: [ord(letter) for letter in row["text"]], 3)
        return hf_rows.Stream(source, lambda row: torch.tensor([ord(letter) for letter in row["text"]]))

    def content(examples: Any) -> list[list[int]]:
        return [(example[0] if blocks else example).tolist() for example in examples]

    whole = content(made())
    if blocks:
        assert bytes(letter for block in whole for letter in block) == b"abcdefghijklmnopqrstu"
    for taken in range(len(whole)):
        first = made()
        items = iter(first)
        begun = content(next(items) for _ in range(taken))
        state = copy.deepcopy(first.state_dict())
        again = made()
        again.load_state_dict(state)
        assert begun + content(again) == whole
        again.set_epoch(1)
        assert content(again) == whole


def test_blocks_of_rows_leave_out_what_fills_none() -> None:
    rows = [{"text": "abc"}, {"text": ""}, {"text": "defg"}]
    blocks = hf_rows.in_blocks(rows, lambda row: [ord(letter) for letter in row["text"]], 3)
    assert blocks.tolist() == [[97, 98, 99], [100, 101, 102]]
    assert hf_rows.in_blocks([], lambda row: [1], 3).shape == (0, 3)
