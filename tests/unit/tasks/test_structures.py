"""Batches and outputs of any structure: what is in them, others of the same structure, and their examples."""

from __future__ import annotations

from collections import UserDict
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from prune_search.tasks.structures import (
    device_of,
    examples_in,
    listed_tensors,
    mapped,
    repeated,
    some_examples,
    tensors_in,
)


class Pair(NamedTuple):
    """Inputs as a named tuple."""

    first: Tensor
    second: str


@dataclass(frozen=True)
class Batch:
    """Inputs as a frozen dataclass."""

    ids: Tensor
    name: str


def test_tensors_are_exchanged_within_any_structure() -> None:
    x, y = torch.arange(6).reshape(3, 2), torch.tensor(7)
    packed = Pair(x, "two")
    given: dict[str, Any] = {"a": [x, (y, "one")], "b": UserDict(c=x), "d": Batch(x, "three"), "e": packed, "f": None}
    assert [tuple(one.shape) for one in tensors_in(given)] == [(3, 2), (), (3, 2), (3, 2), (3, 2)]
    some = some_examples(given, slice(1))
    assert (some["a"][0].tolist(), some["a"][1]) == ([[0, 1]], (y, "one"))
    assert (some["b"]["c"].tolist(), some["d"].ids.tolist(), some["d"].name) == ([[0, 1]], [[0, 1]], "three")
    assert isinstance(some["e"], Pair)
    assert (some["e"].first.tolist(), some["e"].second) == ([[0, 1]], "two")
    assert len(given["b"]["c"]) == 3
    assert mapped(given, lambda tensor: tensor) is given


def test_what_holds_itself_is_looked_into_once() -> None:
    held: list[Any] = [torch.zeros(2)]
    held.append(held)
    assert len(tensors_in(held)) == 1


def test_lists_alone_are_opened_for_operations() -> None:
    x = torch.zeros(2)
    assert listed_tensors((x, [x, 3, {"closed": x}], Batch(x, "closed"))) == [x, x]


def test_examples_are_those_of_the_first_tensor_that_has_any() -> None:
    assert examples_in({"scale": torch.tensor(2.0), "x": torch.zeros(5, 2)}) == 5
    assert examples_in({"text": "no tensor"}) == 0


def test_examples_are_repeated_to_a_number_and_what_has_no_place_for_each_stays() -> None:
    table = torch.ones(4)
    more = repeated({"x": torch.tensor([1, 2, 3]), "table": table}, 7)
    assert (more["x"].tolist(), more["table"] is table) == ([1, 2, 3, 1, 2, 3, 1], True)


def test_a_batch_lies_where_its_first_tensor_does() -> None:
    assert device_of({"x": torch.zeros(2, device="meta")}) == torch.device("meta")
    assert device_of([]) == torch.device("cpu")
