"""MNIST and Fashion-MNIST: four idx files each, of the same names."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from prune_search.recipe.axes import DATASETS
from prune_search.recipe.facts import DataSource

if TYPE_CHECKING:
    from prune_search.tasks.data import DataSet

HELD_OUT = 5_000

# The names and the md5 that the two data sets' pages publish.
MNIST_FILES = (
    ("train-images-idx3-ubyte.gz", "f68b3c2dcbeaaa9fbdd348bbdeb94873"),
    ("train-labels-idx1-ubyte.gz", "d53e105ee54ea40749a09fcbcd1e9432"),
    ("t10k-images-idx3-ubyte.gz", "9fb629c4189551a2d022fa330f9573f3"),
    ("t10k-labels-idx1-ubyte.gz", "ec29112dd5afa0611ce80d1b7f02629c"),
)
FASHION_MNIST_FILES = (
    ("train-images-idx3-ubyte.gz", "8d4fb7e6c68d591d4c3dfef9ec88bf0d"),
    ("train-labels-idx1-ubyte.gz", "25c81989df183df01b3e8a0aad5dffbe"),
    ("t10k-images-idx3-ubyte.gz", "bef4ecab320f06d8554ea6380940ec79"),
    ("t10k-labels-idx1-ubyte.gz", "bb300cfdad3c16e7a12a480ee83cd310"),
)


@DATASETS.register(
    "mnist",
    summary="handwritten digits, 55,000 / 5,000 / 10,000 grey images of 28x28",
    source="LeCun, Bottou, Bengio, Haffner 1998, Gradient-based learning applied to document recognition",
    facts=DataSource(train_examples=60_000 - HELD_OUT, classes=10, shape=(1, 28, 28)),
)
def mnist(root: Path | None) -> DataSet:
    """MNIST from its four official files in `root`, `root`/mnist or `root`/MNIST/raw.

    5,000 of the 60,000 training pictures are the validation split. Mean 0.1307 and standard deviation 0.3081 are those
    of the 60,000.

    Raises:
        UserError: a file is missing, or its md5 is not the official one.
    """
    from prune_search.tasks.idx import IdxFamily, load_idx
    from prune_search.tasks.pictures import Normalisation

    return load_idx(IdxFamily("mnist", "MNIST/raw", MNIST_FILES, HELD_OUT), root, Normalisation((0.1307,), (0.3081,)))


@DATASETS.register(
    "fashion-mnist",
    summary="clothes, 55,000 / 5,000 / 10,000 grey images of 28x28",
    source="Xiao, Rasul, Vollgraf 2017, arXiv 1708.07747",
    facts=DataSource(train_examples=60_000 - HELD_OUT, classes=10, shape=(1, 28, 28)),
)
def fashion_mnist(root: Path | None) -> DataSet:
    """Fashion-MNIST from its four official files in `root`, `root`/fashion-mnist or `root`/FashionMNIST/raw.

    5,000 of the 60,000 training pictures are the validation split. Mean 0.2860 and standard deviation 0.3530 are those
    of the 60,000.

    Raises:
        UserError: a file is missing, or its md5 is not the official one.
    """
    from prune_search.tasks.idx import IdxFamily, load_idx
    from prune_search.tasks.pictures import Normalisation

    family = IdxFamily("fashion-mnist", "FashionMNIST/raw", FASHION_MNIST_FILES, HELD_OUT)
    return load_idx(family, root, Normalisation((0.2860,), (0.3530,)))
