"""Inputs that stay as they are stored: the same batches, the same digest, no copy, and nothing is written to them."""

from __future__ import annotations

from pathlib import Path

import numpy
import torch
from torch import Tensor

from prune_search.tasks.data import Split, split_off
from prune_search.tasks.request import Request
from prune_search.tasks.stored_split import PART_BYTES, StoredSplit, as_stored
from prune_search.tasks.user_data import read_data

COUNT = 60
LABELS = torch.arange(COUNT) % 3


def mapped(folder: Path, dtype: str = "uint8") -> numpy.memmap:
    """Numbers in a file, mapped for reading only."""
    numbers = numpy.random.default_rng(0).integers(0, 256, (COUNT, 4, 5)).astype(dtype)
    numbers.tofile(folder / f"numbers-{dtype}")
    return numpy.memmap(folder / f"numbers-{dtype}", dtype=dtype, mode="r", shape=numbers.shape)


def batch(split: Split | StoredSplit) -> tuple[Tensor, Tensor]:
    return split.reader(lambda step: Request(torch.tensor([5, 1, 7]), lambda: 0), 3, False)(0)


def test_batches_parts_and_digest_are_those_of_converted_inputs(tmp_path: Path) -> None:
    for dtype in ("uint8", "int8", "int16", "int32", "int64", "float16", "float32", "float64"):
        array = mapped(tmp_path, dtype)
        data, wrong = read_data("mine", {"train": (array, LABELS), "test": (array[:9], LABELS[:9]), "classes": 3})
        assert data is not None, wrong
        data = data.with_inputs(torch.float32)
        whole = torch.from_numpy(numpy.array(array, dtype="float32"))
        rest, held = split_off(whole, LABELS, 6)
        for split, plain in ((data.train, rest), (data.validation, held), (data.test, Split(whole[:9], LABELS[:9]))):
            assert len(split) == len(plain)
            assert (split.shape, split.dtype) == (plain.shape, torch.float32)
            pairs = [*zip(split.parts(4), plain.parts(4), strict=True), (split.head(3), plain.head(3))]
            pairs += [(batch(split), batch(plain))] if len(split) > 7 else []
            for (inputs, labels), (expected, numbers) in pairs:
                assert inputs.is_contiguous()
                assert torch.equal(inputs, expected)
                assert torch.equal(labels, numbers)
        again, _ = read_data("mine", {"train": (whole, LABELS), "test": (whole[:9], LABELS[:9]), "classes": 3})
        assert again is not None
        assert again.digest == data.digest


def test_a_mapped_file_is_not_copied_and_its_splits_share_it(tmp_path: Path) -> None:
    array = mapped(tmp_path)
    data, _ = read_data("mine", {"train": (array, LABELS), "test": (array[:9], LABELS[:9]), "classes": 3})
    assert data is not None
    for split in data.splits.values():
        assert isinstance(split, StoredSplit)
        assert split.stored.data_ptr() == array.ctypes.data
        assert split.to("cpu") is split


def test_what_is_read_can_be_written_to_and_what_is_stored_stays(tmp_path: Path) -> None:
    array = mapped(tmp_path, "float32")
    stored = as_stored(array)
    assert stored is not None
    split = StoredSplit(stored, LABELS, torch.float32)
    before = numpy.array(array)
    for read in (batch(split)[0], split.first(3), split.inputs, next(split.parts(4))[0]):
        # Of a file that is mapped for reading only, a write would end the process.
        read.zero_()
    assert numpy.array_equal(array, before)


def test_turned_axes_are_read_from_the_file_and_reversed_ones_are_copied(tmp_path: Path) -> None:
    array = mapped(tmp_path)
    turned = array.transpose(0, 2, 1)
    stored = as_stored(turned)
    assert stored is not None
    split = StoredSplit(stored, LABELS, torch.float32)
    inputs, _ = batch(split)
    assert inputs.is_contiguous()
    assert numpy.array_equal(inputs.numpy(), turned[[5, 1, 7]])
    assert as_stored(array[::-1]) is None
    assert as_stored(array.astype(">i4")) is None


def test_inputs_are_gone_through_in_parts_of_a_few_megabytes() -> None:
    stored = torch.arange(3 * PART_BYTES // 8, dtype=torch.int32).reshape(-1, 1024)
    split = StoredSplit(stored, torch.zeros(len(stored), dtype=torch.int64), torch.float32)
    parts = list(split.input_parts())
    assert len(parts) == 2
    assert max(part.nbytes for part in parts) <= PART_BYTES
    assert torch.equal(torch.cat(parts), stored.float())


def test_a_choice_among_chosen_examples_is_one_among_the_stored_ones() -> None:
    stored = torch.arange(40, dtype=torch.uint8).reshape(10, 4)
    split = (
        StoredSplit(stored, torch.arange(10), torch.int64).chosen(torch.tensor([9, 3, 5])).chosen(torch.tensor([2, 0]))
    )
    assert split.labels.tolist() == [5, 9]
    assert torch.equal(split.inputs, stored[[5, 9]].long())
