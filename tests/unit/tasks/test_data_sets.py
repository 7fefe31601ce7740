"""The registered data sets: the real files, and everything that files can be instead."""

from __future__ import annotations

import gzip
import hashlib
import io
import struct
import tarfile
from importlib import import_module
from pathlib import Path

import numpy
import pytest
import torch

from prune_search.recipe.axes import DATASETS
from prune_search.recipe.problems import UserError
from prune_search.tasks import cifar
from prune_search.tasks.data import DataSet
from prune_search.tasks.idx import IdxFamily, load_idx, parse_idx
from prune_search.tasks.pictures import Normalisation

PLAIN = Normalisation((0.0,), (1.0,))
NAMES = ("train-images.gz", "train-labels.gz", "test-images.gz", "test-labels.gz")


def md5(content: bytes) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


def check_as_declared(data: DataSet, sizes: tuple[int, int, int]) -> None:
    entry = DATASETS[data.name]
    assert tuple(len(split) for split in data.splits.values()) == sizes
    assert entry.facts.train_examples == sizes[0]
    assert (entry.facts.shape, entry.facts.classes) == (data.shape, data.classes)
    for split in data.splits.values():
        assert (split.inputs.dtype, split.labels.dtype) == (torch.float32, torch.int64)
        assert tuple(split.inputs.shape) == (len(split), *data.shape)
        assert torch.bincount(split.labels, minlength=data.classes).min() > 0
        assert int(split.labels.max()) == data.classes - 1
    channels = data.train.inputs.transpose(0, 1).flatten(1)
    assert torch.allclose(channels.mean(dim=1), torch.zeros(len(channels)), atol=0.01)
    assert torch.allclose(channels.std(dim=1), torch.ones(len(channels)), atol=0.01)


# --- digits


def test_digits_need_no_folder_and_are_as_declared() -> None:
    assert DATASETS["digits"].facts.embedded
    data = DATASETS["digits"].build(DataSet, None)
    check_as_declared(data, (1257, 180, 360))
    assert data.digest == DATASETS["digits"].build(DataSet, Path("anywhere")).digest


@pytest.mark.slow
def test_digits_are_those_of_scikit_learn() -> None:
    data = DATASETS["digits"].build(DataSet, None)
    levels = torch.cat([split.inputs for split in data.splits.values()]).flatten(1) * 0.3760 + 0.3053
    labels = torch.cat([split.labels for split in data.splits.values()])
    ours = numpy.column_stack([(levels * 16).round().numpy(), labels.numpy()])
    theirs = numpy.column_stack(import_module("sklearn.datasets").load_digits(return_X_y=True))
    assert sorted(map(tuple, ours.tolist())) == sorted(map(tuple, theirs.tolist()))


# --- the real files


@pytest.mark.parametrize("name", ["mnist", "fashion-mnist"])
@pytest.mark.parametrize("below", [False, True])
def test_the_official_idx_files_are_read(name: str, below: bool, data_root: Path) -> None:
    root = data_root / name if below else data_root
    if not (data_root / name).is_dir():
        pytest.skip(f"{data_root} holds no {name}")
    check_as_declared(DATASETS[name].build(DataSet, root), (55_000, 5_000, 10_000))


@pytest.mark.slow
def test_the_official_cifar_10_is_read_from_archives_and_from_the_folder_alike(data_root: Path, tmp_path: Path) -> None:
    archives = sorted((data_root / "cifar-10").glob("cifar-10.part*.tar.xz"))
    if not archives:
        pytest.skip(f"{data_root} holds no archives of CIFAR-10")
    data = DATASETS["cifar-10"].build(DataSet, data_root)
    check_as_declared(data, (45_000, 5_000, 10_000))
    for archive in archives:
        with tarfile.open(archive) as opened:
            opened.extractall(tmp_path, filter="data")
    assert DATASETS["cifar-10"].build(DataSet, tmp_path).digest == data.digest


# --- idx files that are not as they should be


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


@pytest.mark.parametrize("name", ["mnist", "fashion-mnist", "cifar-10"])
def test_without_a_folder_the_message_says_how_to_name_one(name: str, tmp_path: Path) -> None:
    for root in (None, tmp_path, tmp_path / "is not there"):
        with pytest.raises(UserError) as caught:
            DATASETS[name].build(DataSet, root)
        assert name in str(caught.value)
        assert "--data-root" in str(caught.value)
        assert "PRUNE_SEARCH_DATA" in str(caught.value)


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


# --- CIFAR-10's batches


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
