"""Data sets in idx files: where they are found, and everything that the files can be instead."""

from __future__ import annotations

import gzip
import hashlib
import struct
from pathlib import Path

import numpy
import pytest
import torch

from prune_search.recipe.problems import UserError
from prune_search.tasks.idx import IdxFamily, load_idx, parse_idx
from prune_search.tasks.pictures import Normalisation

PLAIN = Normalisation((0.0,), (1.0,))
NAMES = ("train-images.gz", "train-labels.gz", "test-images.gz", "test-labels.gz")


def md5(content: bytes) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


def idx(array: numpy.ndarray) -> bytes:
    return struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape) + array.astype("uint8").tobytes()


@pytest.fixture
def family(tmp_path: Path) -> IdxFamily:
    """A tiny idx data set of ten classes, in <tmp_path>/tiny."""
    folder = tmp_path / "tiny"
    folder.mkdir()
    pictures, labels = numpy.arange(20 * 4 * 4).reshape(20, 4, 4) % 256, numpy.arange(20) % 10
    arrays = (pictures, labels, pictures[:10], labels[:10])
    for name, array in zip(NAMES, arrays, strict=True):
        (folder / name).write_bytes(gzip.compress(idx(array)))
    return family_of(folder)


def family_of(folder: Path) -> IdxFamily:
    """The family whose md5 are those of the files as they are now."""
    first, second, third, fourth = ((name, md5((folder / name).read_bytes())) for name in NAMES)
    return IdxFamily("tiny", "Tiny/raw", (first, second, third, fourth), held_out=10)


def test_an_idx_data_set_holds_what_the_files_hold(family: IdxFamily, tmp_path: Path) -> None:
    data = load_idx(family, tmp_path, PLAIN)
    assert torch.equal(data.test.inputs[3] * 255, torch.arange(48.0, 64.0).reshape(1, 4, 4))
    assert data.test.labels.tolist() == list(range(10))
    assert sorted(data.validation.labels.tolist()) == sorted(data.train.labels.tolist()) == list(range(10))


@pytest.mark.parametrize("place", ["tiny", "Tiny/raw", "."])
def test_files_are_found_in_each_of_the_places(family: IdxFamily, tmp_path: Path, place: str) -> None:
    root = tmp_path / "elsewhere"
    (root / place).mkdir(parents=True)
    for name in NAMES:
        (tmp_path / "tiny" / name).rename(root / place / name)
    assert len(load_idx(family, root, PLAIN).train) == 10


def test_the_folder_of_the_data_set_goes_before_the_root(family: IdxFamily, tmp_path: Path) -> None:
    for name in NAMES:
        (tmp_path / name).write_bytes(b"the files of another data set")
    assert len(load_idx(family, tmp_path, PLAIN).train) == 10


def test_a_missing_file_is_named_with_the_place_where_it_goes(family: IdxFamily, tmp_path: Path) -> None:
    (tmp_path / "tiny" / NAMES[1]).unlink()
    with pytest.raises(UserError) as caught:
        load_idx(family, tmp_path, PLAIN)
    message = str(caught.value)
    assert "tiny lacks train-labels.gz:" in message
    assert str(tmp_path / "tiny") in message
    assert "--data-root" in message
    assert "PRUNE_SEARCH_DATA" in message
    assert caught.value.problems[0].path == "task.data"


def test_files_in_two_places_are_all_asked_for(family: IdxFamily, tmp_path: Path) -> None:
    (tmp_path / "tiny" / NAMES[1]).rename(tmp_path / NAMES[1])
    with pytest.raises(UserError, match=f"lacks {', '.join(NAMES)}"):
        load_idx(family, tmp_path, PLAIN)


@pytest.mark.parametrize("number", range(4))
@pytest.mark.parametrize("damage", ["cut", "empty", "bit"])
def test_a_damaged_file_is_named_with_both_sums(family: IdxFamily, tmp_path: Path, number: int, damage: str) -> None:
    path = tmp_path / "tiny" / NAMES[number]
    content = path.read_bytes()
    flipped = content[:20] + bytes([content[20] ^ 1]) + content[21:]
    damaged = {"cut": content[:-7], "empty": b"", "bit": flipped}[damage]
    path.write_bytes(damaged)
    with pytest.raises(UserError) as caught:
        load_idx(family, tmp_path, PLAIN)
    message = str(caught.value)
    assert str(path) in message
    assert f"md5 expected {md5(content)}, got {md5(damaged)}" in message


@pytest.mark.parametrize(
    "content",
    [
        b"no gz at all",
        gzip.compress(b"x" * 1000, mtime=0)[:-9],
        gzip.compress(b"x" * 1000, mtime=0)[:12] + b"\xff" * 9,
        gzip.compress(b"", mtime=0),
        gzip.compress(b"\0\0\x08", mtime=0),
        gzip.compress(b"\0\0\x0d\x03" + bytes(12), mtime=0),
        gzip.compress(b"\0\0\x08\x03\0\0", mtime=0),
        gzip.compress(idx(numpy.zeros((20, 4, 4)))[:-1], mtime=0),
        gzip.compress(idx(numpy.zeros((20, 4, 4))) + b"\0", mtime=0),
        gzip.compress(b"\0\0\x08\x03" + b"\xff" * 12, mtime=0),
        gzip.compress(idx(numpy.zeros((19, 4, 4))), mtime=0),
        gzip.compress(idx(numpy.zeros(20)), mtime=0),
    ],
)
def test_no_content_of_a_file_ends_in_a_traceback_even_where_the_md5_fits(
    family: IdxFamily, tmp_path: Path, content: bytes
) -> None:
    path = tmp_path / "tiny" / NAMES[0]
    path.write_bytes(content)
    with pytest.raises(UserError, match=str(path)):
        load_idx(family_of(path.parent), tmp_path, PLAIN)


def test_an_idx_array_without_elements_is_read_as_such() -> None:
    assert parse_idx(idx(numpy.zeros((0, 4))), "empty").shape == (0, 4)
