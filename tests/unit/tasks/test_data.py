"""The data set as a value: its digest, its validation split, its move to a device."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from prune_search.tasks.data import DataSet, Split, split_indices, split_off


def small_set(name: str = "small") -> DataSet:
    inputs = torch.arange(60, dtype=torch.float32).reshape(12, 5)
    labels = torch.tensor([0, 1, 2] * 4)
    train, validation, test = (Split(inputs[start : start + 4], labels[start : start + 4]) for start in (0, 4, 8))
    return DataSet(name, train, validation, test, classes=3)


def flip_lowest_bit(tensor: torch.Tensor, place: int) -> torch.Tensor:
    changed = tensor.clone()
    changed.reshape(-1).view(torch.uint8)[place] ^= 1
    return changed


def test_shape_is_that_of_one_example() -> None:
    assert small_set().shape == (5,)


def test_digest_is_the_same_for_equal_arrays_and_does_not_depend_on_the_name() -> None:
    assert small_set().digest == small_set("another").digest


@pytest.mark.parametrize("part", ["train", "validation", "test"])
@pytest.mark.parametrize("array", ["inputs", "labels"])
def test_one_bit_of_any_array_changes_the_digest(part: str, array: str) -> None:
    data, changed = small_set(), small_set()
    split = getattr(changed, part)
    altered: Any = {part: dataclasses.replace(split, **{array: flip_lowest_bit(getattr(split, array), 3)})}
    assert dataclasses.replace(changed, **altered).digest != data.digest


def test_moving_an_example_from_one_split_to_another_changes_the_digest() -> None:
    data = small_set()
    swapped = dataclasses.replace(data, train=data.validation, validation=data.train)
    assert swapped.digest != data.digest


def test_another_shape_of_the_same_bytes_changes_the_digest() -> None:
    data = small_set()
    reshaped = Split(data.test.inputs.reshape(4, 1, 5), data.test.labels)
    assert dataclasses.replace(data, test=reshaped).digest != data.digest


def test_digest_does_not_depend_on_strides() -> None:
    data = small_set()
    strided = Split(data.train.inputs.t().contiguous().t(), data.train.labels)
    assert not strided.inputs.is_contiguous()
    assert dataclasses.replace(data, train=strided).digest == data.digest


def test_a_moved_data_set_holds_the_same_and_has_the_same_digest() -> None:
    data = small_set()
    before = data.to("cpu").digest
    assert data.digest == before
    moved = data.to(torch.device("meta"))
    assert moved.train.inputs.device.type == moved.test.labels.device.type == "meta"
    assert moved.digest == data.digest
    assert (moved.shape, moved.classes, moved.name) == (data.shape, data.classes, data.name)


def test_split_off_holds_out_the_share_of_each_class() -> None:
    labels = torch.tensor([0] * 600 + [1] * 300 + [2] * 100)
    rest, held = split_off(torch.arange(1000.0).reshape(-1, 1), labels, 50)
    assert torch.bincount(held.labels).tolist() == [30, 15, 5]
    assert torch.bincount(rest.labels).tolist() == [570, 285, 95]


def test_split_off_keeps_inputs_and_labels_together() -> None:
    labels = torch.arange(40) % 4
    for split in split_off(labels.float().reshape(-1, 1) * 10, labels, 9):
        assert torch.equal(split.inputs.flatten(), split.labels.float() * 10)


def test_the_split_is_the_same_whatever_the_seed_of_the_trial_and_draws_nothing_from_it() -> None:
    labels = torch.arange(100) % 3
    torch.manual_seed(1)
    state = torch.get_rng_state()
    first = split_indices(labels, 20)
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(2)
    second = split_indices(labels, 20)
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def test_the_held_out_examples_are_not_simply_the_first() -> None:
    _, held = split_indices(torch.zeros(1000, dtype=torch.long), 100)
    assert held.float().mean() == pytest.approx(500, abs=150)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(0, 5), min_size=0, max_size=60), st.data())
def test_any_split_is_exact_and_even(labels: list[int], draw: st.DataObject) -> None:
    count = draw.draw(st.integers(0, len(labels)))
    tensor = torch.tensor(labels, dtype=torch.long)
    rest, held = split_indices(tensor, count)
    assert len(held) == count
    assert sorted([*rest.tolist(), *held.tolist()]) == list(range(len(labels)))
    for label in set(labels):
        share = count * labels.count(label) / len(labels)
        assert abs(int((tensor[held] == label).sum()) - share) < 1


@pytest.mark.parametrize("count", [-1, 5])
def test_more_than_there_is_cannot_be_held_out(count: int) -> None:
    with pytest.raises(ValueError, match="cannot be held out"):
        split_indices(torch.zeros(4, dtype=torch.long), count)
