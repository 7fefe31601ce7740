"""One-coordinate signals in Gaussian noise: the data model of a theory of pruning, drawn from a seed."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from prune_search.recipe.axes import DATASETS
from prune_search.recipe.facts import DataSource
from prune_search.recipe.fields import Integer, Number
from prune_search.recipe.problems import Problem, UserError
from prune_search.recipe.registry import Option

if TYPE_CHECKING:
    import torch

    from prune_search.tasks.data import DataSet, Split
else:
    from prune_search.lazy import torch

PARTS = ("train", "validation", "test")
MAX_SEED = 2**30


def _with_options(*, train: int, classes: int, dimension: int, **options: object) -> DataSource:
    return DataSource(train_examples=train, classes=classes, shape=(dimension,), embedded=True)


@DATASETS.register(
    "sparse-signal",
    summary="one coordinate determines the class, all others are Gaussian noise; drawn from a seed, no file needed",
    source="Yang, Liang, Guo, Wu & Wang 2023, 2301.00335, the data model; its sizes are this project's",
    facts=DataSource(10, 2, (1000,), embedded=True, with_options=_with_options),
    options={
        "dimension": Option(Integer(1, 1_000_000), 1000, "d, numbers per example"),
        "classes": Option(Integer(2, 10_000), 2, "K, number of classes"),
        "train": Option(Integer(1, 10_000_000), 10, "n, training examples"),
        "validation": Option(Integer(1, 10_000_000), 500, "validation examples"),
        "test": Option(Integer(1, 10_000_000), 2000, "test examples"),
        "signal": Option(
            Number(0.0, 1e6), 5.0, "signal that is added to the noise of the coordinate of an example's class"
        ),
        "noise": Option(Number(0.0, 1e6, above=True), 1.0, "standard deviation of the noise"),
        "seed": Option(Integer(0, MAX_SEED - 1), 0, "seed of the draw, independent of the trial's seed"),
    },
)
def sparse_signal(
    root: Path | None,
    *,
    dimension: int,
    classes: int,
    train: int,
    validation: int,
    test: int,
    signal: float,
    noise: float,
    seed: int,
) -> DataSet:
    """Examples x = signal · e_y + ξ of class y, with ξ ~ N(0, noise² I) in all coordinates.

    The paper draws the classes uniformly; here they take turns, so that every part has equally many of each, to one. A
    part depends on the seed and its own options alone: more test examples leave the training set as it is.

    Args:
        root: not looked at.
        dimension: d; an example is float32 [d].
        classes: K, at most d: the signal of class y is in coordinate y.
        train: examples, at least one of every class, as of the other parts.
        validation: likewise.
        test: likewise.
        signal: at least 0.
        noise: above 0.
        seed: 0 … 2**30 - 1.

    Raises:
        UserError: a part, or an example, is too small for the classes.
    """
    sizes = dict(zip(PARTS, (train, validation, test), strict=True))
    wrong = [
        Problem(f"task.data.{key}", f"must be at least the {classes} classes of the data set (got {size})", form=False)
        for key, size in (("dimension", dimension), *sizes.items())
        if size < classes
    ]
    if wrong:
        raise UserError(wrong)

    from prune_search.tasks.data import DataSet, Split

    def drawn(place: int, size: int) -> Split:
        source = torch.Generator().manual_seed(len(PARTS) * seed + place)
        labels = torch.arange(size) % classes
        inputs = noise * torch.randn(size, dimension, generator=source)
        inputs[torch.arange(size), labels] += signal
        return Split(inputs, labels)

    parts = [drawn(place, size) for place, size in enumerate(sizes.values())]
    return DataSet("sparse-signal", parts[0], parts[1], parts[2], classes)
