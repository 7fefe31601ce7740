"""The registered data sets: they are as declared, and the real files are read."""

from __future__ import annotations

import tarfile
from importlib import import_module
from pathlib import Path

import numpy
import pytest
import torch

from prune_search.recipe.axes import DATASETS
from prune_search.recipe.problems import UserError
from prune_search.tasks.data import DataSet


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


@pytest.mark.parametrize("name", ["mnist", "fashion-mnist", "cifar-10"])
def test_without_a_folder_the_message_says_how_to_name_one(name: str, tmp_path: Path) -> None:
    for root in (None, tmp_path, tmp_path / "is not there"):
        with pytest.raises(UserError) as caught:
            DATASETS[name].build(DataSet, root)
        assert name in str(caught.value)
        assert "--data-root" in str(caught.value)
        assert "PRUNE_SEARCH_DATA" in str(caught.value)
