"""The batches of CIFAR-10: unpacked or in archives, and everything that they can be instead."""

from __future__ import annotations

import hashlib
import io
import struct
import tarfile
from pathlib import Path

import numpy
import pytest
import torch

from prune_search.recipe.problems import UserError
from prune_search.tasks import cifar


def md5(content: bytes) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


def batch(labels: list[int], seed: int = 0) -> bytes:
    """A batch file as Python 2 wrote it, so many pictures of 3x32x32, its instructions put together by hand."""
    pixels = numpy.random.default_rng(seed).integers(0, 256, len(labels) * 3072).astype("uint8").tobytes()
    listed = b"".join(b"K" + bytes([label]) for label in labels)
    return b"\x80\x02}(U\x06labels](" + listed + b"eU\x04dataT" + struct.pack("<i", len(pixels)) + pixels + b"u."


def packed(path: Path, files: dict[str, bytes]) -> None:
    with tarfile.open(path, "w:xz" if path.suffix == ".xz" else "w:gz") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))


BATCHES = {"data_batch_1": batch([3, 1, 4], 1), "test_batch": batch([9, 2], 2)}
SUMS = {name: md5(content) for name, content in BATCHES.items()}
FOLDER = "cifar-10-batches-py"


def test_a_batch_holds_pictures_and_labels() -> None:
    pictures, labels = cifar.parse_batch(batch([3, 1, 4], 1), "batch")
    assert labels.tolist() == [3, 1, 4]
    expected = numpy.random.default_rng(1).integers(0, 256, 3 * 3072).astype("uint8").reshape(3, 3, 32, 32)
    assert torch.equal(pictures, torch.from_numpy(expected))


def test_nothing_in_a_batch_is_run(tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    path = str(canary).encode()
    opens_it = b"cbuiltins\nopen\n(X" + struct.pack("<i", len(path)) + path + b"U\x01wtR."
    content = batch([1])[:-1] + opens_it
    cifar.parse_batch(content, "batch")
    assert not canary.exists()


@pytest.mark.parametrize(
    "content", [b"", b"no pickle", batch([1, 2])[:-500], batch([]), b"\x80\x02}.", batch([1])[:40], b"K"]
)
def test_what_is_no_batch_is_refused(content: bytes) -> None:
    with pytest.raises(UserError, match="batch_7 is not a CIFAR-10 batch"):
        cifar.parse_batch(content, "batch_7")


@pytest.mark.parametrize("below", ["", "cifar-10"])
@pytest.mark.parametrize("folder", [FOLDER, ""])
def test_batches_are_found_unpacked(tmp_path: Path, below: str, folder: str) -> None:
    there = tmp_path / below / folder
    there.mkdir(parents=True, exist_ok=True)
    for name, content in BATCHES.items():
        (there / name).write_bytes(content)
    assert cifar.read_batches(tmp_path, SUMS) == BATCHES
    (there / "test_batch").unlink()
    lacking = f"{folder}/test_batch" if folder else "test_batch"
    with pytest.raises(UserError, match=f"cifar-10 lacks {lacking}: put"):
        cifar.read_batches(tmp_path, SUMS)


@pytest.mark.parametrize("below", ["", "cifar-10"])
def test_batches_are_read_from_the_parts_without_writing(tmp_path: Path, below: str) -> None:
    folder = tmp_path / below
    folder.mkdir(exist_ok=True)
    for number, (name, content) in enumerate(BATCHES.items(), start=1):
        packed(folder / f"cifar-10.part{number}.tar.xz", {f"{FOLDER}/{name}": content, "../out": b"ignored"})
    before = sorted(tmp_path.rglob("*"))
    assert cifar.read_batches(tmp_path, SUMS) == BATCHES
    assert sorted(tmp_path.rglob("*")) == before


def test_batches_are_read_from_the_published_archive(tmp_path: Path) -> None:
    packed(tmp_path / "cifar-10-python.tar.gz", {f"{FOLDER}/{name}": content for name, content in BATCHES.items()})
    assert cifar.read_batches(tmp_path, SUMS) == BATCHES


def test_a_batch_that_is_missing_is_named(tmp_path: Path) -> None:
    packed(tmp_path / "cifar-10.part1.tar.xz", {f"{FOLDER}/test_batch": BATCHES["test_batch"]})
    with pytest.raises(UserError, match="cifar-10 lacks the archive with cifar-10-batches-py/data_batch_1:"):
        cifar.read_batches(tmp_path, SUMS)
    (tmp_path / FOLDER).mkdir()
    (tmp_path / FOLDER / "data_batch_1").write_bytes(BATCHES["data_batch_1"])
    with pytest.raises(UserError, match="cifar-10 lacks cifar-10-batches-py/test_batch:"):
        cifar.read_batches(tmp_path, SUMS)


@pytest.mark.parametrize("unpacked", [True, False])
def test_an_altered_batch_is_named_with_both_sums(tmp_path: Path, unpacked: bool) -> None:
    altered = {**BATCHES, "test_batch": BATCHES["test_batch"][:-1] + b"!"}
    if unpacked:
        (tmp_path / FOLDER).mkdir()
        for name, content in altered.items():
            (tmp_path / FOLDER / name).write_bytes(content)
    else:
        packed(tmp_path / "cifar-10.part1.tar.xz", {f"{FOLDER}/{name}": content for name, content in altered.items()})
    with pytest.raises(UserError) as caught:
        cifar.read_batches(tmp_path, SUMS)
    assert f"{FOLDER}/test_batch is not the official file" in str(caught.value)
    assert f"md5 expected {SUMS['test_batch']}, got {md5(altered['test_batch'])}" in str(caught.value)


@pytest.mark.parametrize("keep", [0, 10, 0.5, 0.99])
def test_a_cut_archive_is_named(tmp_path: Path, keep: float) -> None:
    path = tmp_path / "cifar-10.part1.tar.xz"
    packed(path, {f"{FOLDER}/{name}": content for name, content in BATCHES.items()})
    content = path.read_bytes()
    path.write_bytes(content[: int(keep * len(content)) if keep < 1 else int(keep)])
    with pytest.raises(UserError, match="cifar-10"):
        cifar.read_batches(tmp_path, SUMS)


def test_a_member_that_claims_to_be_enormous_is_not_read(tmp_path: Path) -> None:
    claim = tarfile.TarInfo(f"{FOLDER}/test_batch")
    claim.size = 10**12
    (tmp_path / "cifar-10.part1.tar.xz").write_bytes(claim.tobuf() + bytes(10_240))
    with pytest.raises(UserError, match="1000000000000 bytes long"):
        cifar.read_batches(tmp_path, SUMS)
