"""Data sets of Hugging Face's `datasets`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prune_search.recipe.axes import DATASETS
from prune_search.recipe.fields import Flag, Integer, ListOf, Number, Text, Word
from prune_search.recipe.registry import Option
from prune_search.recipe.schema import Block
from prune_search.tasks.datasets.image_folder import AUGMENTATIONS, IMAGENET_MEAN, IMAGENET_STD

if TYPE_CHECKING:
    from prune_search.tasks.task import Task

COLUMNS = {
    "inputs": Option(ListOf(Text(), 1), doc="columns of the inputs"),
    "target": Option(Text(), None, "column of the target; default: each token is predicted from those before it"),
}


@DATASETS.register(
    "hf-dataset",
    member="ID_OR_FOLDER",
    summary="a data set of Hugging Face's datasets: a folder, or its name on the Hub",
    source="Lhoest et al. 2021, arXiv 2109.02846",
    options={
        "columns": Option(Block(COLUMNS), doc="inputs and target"),
        "train": Option(Text(), "train", "name of the training split"),
        "validation": Option(
            Text(), None, "name of the validation split; default: the usual one, else a share is held out"
        ),
        "test": Option(Text(), None, "name of the test split; default: the usual one"),
        "split": Option(
            Number(0.0, 1.0, above=True, below=True), 0.1, "share held out if there is no validation split"
        ),
        "subset": Option(Text(), None, "name of the subset, for a data set that has several"),
        "revision": Option(Text(), None, "revision on the Hub, for a data set that is downloaded"),
        "streaming": Option(Flag(), False, "read it in its own order, without loading it whole"),
        "tokenizer": Option(Text(), None, "Hugging Face tokenizer for texts: a folder or file"),
        "length": Option(Integer(2, 1_000_000), 128, "tokens per example"),
        "size": Option(Integer(1, 4096), 224, "height and width of images, in pixels"),
        "augment": Option(ListOf(Word(AUGMENTATIONS)), [], "augmentations of training images"),
        "mean": Option(ListOf(Number(), 1, 3), IMAGENET_MEAN, "mean of each channel of images, levels 0 … 1"),
        "std": Option(ListOf(Number(0.0, above=True), 1, 3), IMAGENET_STD, "standard deviation of each channel"),
        "workers": Option(Integer(0, 256), 0, "processes that read; the batches are the same whatever their number"),
    },
)
def hf_dataset(
    root: Path | None,
    *,
    columns: Mapping[str, Any],
    train: str,
    split: float,
    streaming: bool,
    length: int,
    size: int,
    augment: Sequence[str],
    mean: Sequence[float],
    std: Sequence[float],
    workers: int,
    member: str,
    validation: str | None = None,
    test: str | None = None,
    subset: str | None = None,
    revision: str | None = None,
    tokenizer: str | None = None,
) -> Task:
    """A data set of the library as a task.

    Texts become a mapping of what the tokenizer makes and ``labels``, or blocks of tokens where there is no target;
    images become (float32 [C, size, size], label); numbers and arrays (tensor, target), of several columns a mapping.

    Args:
        root: the folder of --data-root, which a folder is relative to.
        columns: ``inputs`` and perhaps ``target``.
        train: the split that is trained on.
        split: share of it that is held out where there is no validation split.
        streaming: whether it is read in its own order and never whole.
        length: tokens of an example.
        size: height and width of images.
        augment: of training images.
        mean: of each channel of images.
        std: likewise.
        workers: processes that read.
        member: a folder, absolute or below `root` or the working directory; else a name that the library looks up.
        validation: the split that a search sees.
        test: the split that is reported.
        subset: of a data set that has several.
        revision: of a data set that is looked up.
        tokenizer: of texts.

    Raises:
        UserError: the package is missing, the data set cannot be loaded, or the columns are not there.
    """
    from prune_search.tasks.kinds.hf_rows import Columns
    from prune_search.tasks.kinds.hf_sources import Wanted
    from prune_search.tasks.kinds.hf_task import Reading, task_of
    from prune_search.tasks.kinds.look import Look

    wanted = Wanted(member, {"train": train, "validation": validation, "test": test}, subset, revision, streaming)
    look = Look(size, size, tuple(augment), tuple(mean), tuple(std))
    used = Columns(tuple(columns["inputs"]), columns.get("target"))
    return task_of(wanted, root, Reading(used, split, tokenizer, length, look, workers))
