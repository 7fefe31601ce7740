"""scikit-learn's digits, the data set that needs no file."""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prune_search.recipe.axes import DATASETS
from prune_search.recipe.facts import DataSource

if TYPE_CHECKING:
    from prune_search.tasks.data import DataSet

EXAMPLES, HELD_OUT, TEST = 1_797, 180, 360


@DATASETS.register(
    "digits",
    summary="handwritten digits from scikit-learn, 1,257 / 180 / 360 grey images of 8x8; no file needed",
    source="Alpaydin, Kaynak 1998, UCI Optical Recognition of Handwritten Digits (its test part)",
    facts=DataSource(train_examples=EXAMPLES - HELD_OUT - TEST, classes=10, shape=(1, 8, 8), embedded=True),
)
def digits(root: Path | None) -> DataSet:
    """The 1,797 pictures, stratified into 1,257 for training, 180 for validation and 360 for the test.

    Grey levels are 0 … 16. Mean 0.3053 and standard deviation 0.3760 are those of all pictures, scaled to 0 … 1.

    Args:
        root: not looked at.

    Raises:
        UserError: scikit-learn is not installed.
    """
    import torch

    from prune_search.tasks.data import split_indices
    from prune_search.tasks.pictures import Normalisation, picture_set

    table = torch.from_numpy(_table())
    pictures, labels = table[:, :-1].reshape(-1, 1, 8, 8), table[:, -1].long()
    rest, test = split_indices(labels, TEST)
    normalise = Normalisation((0.3053,), (0.3760,), top=16.0)
    return picture_set("digits", (pictures[rest], labels[rest]), (pictures[test], labels[test]), HELD_OUT, normalise)


def _table() -> Any:
    """scikit-learn's table of the digits, a numpy array [1797, 65]: 64 grey levels and the label."""
    import numpy

    from prune_search.tasks.files import bad_data

    installed = find_spec("sklearn")
    if installed is None or installed.origin is None:
        raise bad_data("digits needs scikit-learn, which is not installed")
    # Its own loader reads this file too, after two seconds of imports that every worker would pay for.
    packed = Path(installed.origin).parent / "datasets" / "data" / "digits.csv.gz"
    if packed.is_file():
        return numpy.loadtxt(packed, delimiter=",")
    pictures, labels = import_module("sklearn.datasets").load_digits(return_X_y=True)
    return numpy.column_stack([pictures, labels])
