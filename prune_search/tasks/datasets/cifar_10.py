"""CIFAR-10, from the Python version that its page publishes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from prune_search.recipe.axes import DATASETS
from prune_search.recipe.facts import DataSource

if TYPE_CHECKING:
    from prune_search.tasks.data import DataSet

HELD_OUT = 5_000

# The md5 of the seven files of the published archive.
FILES = {
    "batches.meta": "5ff9c542aee3614f3951f8cda6e48888",
    "data_batch_1": "c99cafc152244af753f735de768cd75f",
    "data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec",
    "data_batch_3": "54ebc095f3ab1f0389bbae665268c751",
    "data_batch_4": "634d18415352ddfa80567beed471001a",
    "data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb",
    "test_batch": "40351d587109b95175f43aff81a1287e",
}


@DATASETS.register(
    "cifar-10",
    summary="ten classes of objects, 45,000 / 5,000 / 10,000 colour images of 32x32",
    source="Krizhevsky 2009, Learning multiple layers of features from tiny images",
    facts=DataSource(train_examples=50_000 - HELD_OUT, classes=10, shape=(3, 32, 32)),
)
def cifar_10(root: Path | None) -> DataSet:
    """CIFAR-10 from `root` or `root`/cifar-10: the folder cifar-10-batches-py, its files, or its archives.

    The unpacked folder loads in a second or two; archives are unpacked in memory every time, which takes ten.
    5,000 of the 50,000 training pictures are the validation split. Means (0.4914, 0.4822, 0.4465) and standard
    deviations (0.2470, 0.2435, 0.2616) are those of the 50,000.

    Raises:
        UserError: a file is missing, damaged, or its md5 is not the official one.
    """
    from prune_search.tasks.cifar import joined, read_batches
    from prune_search.tasks.pictures import Normalisation, picture_set

    contents = read_batches(root, FILES)
    train = joined(contents, [f"data_batch_{number}" for number in range(1, 6)])
    normalise = Normalisation((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616))
    return picture_set("cifar-10", train, joined(contents, ["test_batch"]), HELD_OUT, normalise)
