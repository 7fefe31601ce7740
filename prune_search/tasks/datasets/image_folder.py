"""Images in class folders."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from prune_search.recipe.axes import DATASETS
from prune_search.recipe.fields import Integer, ListOf, Number, Text, Word
from prune_search.recipe.registry import Option

if TYPE_CHECKING:
    from prune_search.tasks.task import Task

IMAGENET_MEAN, IMAGENET_STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
AUGMENTATIONS = ("crop", "flip", "jitter", "randaugment")


@DATASETS.register(
    "image-folder",
    summary="images in class folders, in train, val and test or in one set that is split; decoded by workers",
    options={
        "folder": Option(Text(), doc="folder of the images, below --data-root"),
        "size": Option(Integer(1, 4096), 224, "height and width of an example, in pixels"),
        "resize": Option(Integer(1, 8192), None, "shorter side before the middle is cut out; default: size"),
        "split": Option(Number(0.0, 1.0, above=True, below=True), 0.1, "share held out for each part that is missing"),
        "augment": Option(
            ListOf(Word(AUGMENTATIONS)), [], "augmentations of training images, in this order; crop comes first"
        ),
        "mean": Option(ListOf(Number(), 1, 3), IMAGENET_MEAN, "mean of each channel, levels 0 … 1; one: grey images"),
        "std": Option(ListOf(Number(0.0, above=True), 1, 3), IMAGENET_STD, "standard deviation of each channel"),
        "interpolation": Option(Word(("bilinear", "bicubic")), "bilinear", "interpolation of resized images"),
        "transforms": Option(
            Word(("own", "torchvision")),
            "own",
            "which code resizes and augments; torchvision: transforms.v2, with slightly different results",
        ),
        "workers": Option(Integer(0, 256), 2, "processes that decode; the batches are the same whatever their number"),
    },
)
def image_folder(
    root: Path | None,
    *,
    folder: str,
    size: int,
    split: float,
    augment: Sequence[str],
    mean: Sequence[float],
    std: Sequence[float],
    interpolation: str,
    transforms: str,
    workers: int,
    resize: int | None = None,
) -> Task:
    """Class folders of images as a task: float32 [C, size, size] and a label.

    Args:
        root: the folder of --data-root, which `folder` is relative to.
        folder: with train, val (or validation, valid) and test, or with class folders only.
        size: height and width of an example, in pixels.
        split: share of the training images that is held out for validation where there is no such folder, and for the
            test where there are class folders only; stratified, the same for all trials.
        augment: names of augmentations of training images.
        mean: of each channel; one figure makes grey images.
        std: likewise.
        interpolation: ``bilinear`` or ``bicubic``.
        transforms: ``own`` or ``torchvision``.
        workers: processes that decode.
        resize: of the shorter side before the middle is cut out, in pixels; None: `size`.

    Raises:
        UserError: everything that is wrong with the folder and the options.
    """
    from prune_search.recipe.problems import UserError
    from prune_search.tasks.kinds.packages import package
    from prune_search.tasks.kinds.paths import below_root, files_digest
    from prune_search.tasks.task import Task

    package("PIL.Image", "image-folder", "task.data")
    from prune_search.tasks.kinds import images
    from prune_search.tasks.kinds.image_transforms import torchvision_transform
    from prune_search.tasks.kinds.look import Look

    look = Look(size, resize or size, tuple(augment), tuple(mean), tuple(std), interpolation)
    if problems := look.problems():
        raise UserError(problems)
    made = None
    if transforms == "torchvision":
        made = partial(
            torchvision_transform, v2=package("torchvision.transforms.v2", "image-folder", "task.data.transforms")
        )
    place = below_root(root, folder, images.KEY)
    found, classes = images.scan(place)
    names = [name for part in found.values() for name in part.names]
    parts = images.split(found, split)
    digest = files_digest([(name, place / name) for name in names], ("image-folder", look, split, transforms, classes))
    images.check_decoding(place, names, look.channels, digest)
    sets = images.files(place, parts, look, made)
    return Task(
        train=sets["train"],
        validation=sets["validation"],
        test=sets.get("test"),
        loss="cross-entropy",
        metrics=("accuracy",),
        workers=workers,
        digest=digest,
        classes=len(classes),
        name="image-folder",
    )
