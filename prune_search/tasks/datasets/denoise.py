"""A single picture that a network is fitted to: noisy (`denoise`), or with missing pixels (`inpaint`)."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from prune_search.recipe.axes import DATASETS
from prune_search.recipe.facts import DataSource
from prune_search.recipe.fields import Integer, Number, Text, Word
from prune_search.recipe.registry import Option

if TYPE_CHECKING:
    from prune_search.tasks.task import Task

HELD_OUT = "held-out-pixels"
# The single example is the fixed input with its picture.
ONE = DataSource(train_examples=1)


def _options(sigma: float, keep: float) -> dict[str, Option]:
    share = Number(0.0, 1.0, above=True)
    return {
        "picture": Option(Text(), "china", "china or flower of scikit-learn, or a file or folder below --data-root"),
        "index": Option(Integer(0, 1_000_000), 0, "which picture of a folder, from 0, sorted by name"),
        "size": Option(Integer(2, 4096), 64, "height and width in pixels, cut from the middle and resized"),
        "sigma": Option(Number(0.0, 10.0), sigma, "standard deviation of the noise that is added, of levels 0…1"),
        "keep": Option(share, keep, "share of the pixels that are known; the others are missing"),
        "validate": Option(
            Word((HELD_OUT, "clean")), HELD_OUT, "validate on held-out known pixels, or on the clean picture"
        ),
        "held_out": Option(
            Number(0.0, 1.0, above=True, below=True), 0.1, "share of the known pixels that are held out"
        ),
        "inputs": Option(Integer(1, 4096), 32, "channels of the fixed random input"),
        "seed": Option(Integer(0, 2**31 - 1), 0, "seed of the noise, the missing and held-out pixels, and the input"),
    }


@DATASETS.register(
    "denoise",
    summary="one noisy picture, fitted from a fixed random input and validated on held-out pixels (deep image prior)",
    source="Ulyanov, Vedaldi, Lempitsky 2018, Deep Image Prior, 1711.10925",
    options=_options(sigma=0.1, keep=1.0),
    facts=ONE,
)
def denoise(
    root: Path | None,
    *,
    picture: str,
    index: int,
    size: int,
    sigma: float,
    keep: float,
    validate: str,
    held_out: float,
    inputs: int,
    seed: int,
) -> Task:
    """One example: the input z ~ U(0, 0.1) [inputs, size, size] and the picture [3, size, size], levels 0 … 1.

    The noisy picture is clean + sigma · N(0, 1), cut to 0 … 1. The loss is the mean squared error over the pixels that
    training sees; the metric is ``psnr``. Training, validation and test have the same input, and other pixels: those
    that are seen, those that are held out (noisy as they are), all of the clean picture. A file of one's own with
    ``sigma: 0`` and ``keep: 1`` is taken to be noisy as it is, so that there is no test.

    Args:
        root: the folder of --data-root, which `picture` is relative to.
        picture: ``china`` or ``flower``, or a file, or a folder of which `index` says which.
        index: of a folder.
        size: of the middle square, in pixels.
        sigma: of levels 0 … 1.
        keep: share of the pixels that are known.
        validate: ``held-out-pixels``, or ``clean``: all pixels are trained on, and validation compares with the clean
            picture, which nobody has who denoises.
        held_out: share of the known pixels that are held out.
        inputs: channels of the fixed random input.
        seed: of all that is drawn here.

    Raises:
        UserError: everything that is wrong with the picture and the options.
    """
    from prune_search.tasks.kinds.one_picture import Degraded, clean_picture, picture_task

    how = Degraded(sigma, keep, held_out if validate == HELD_OUT else None, inputs, seed)
    clean, is_known = clean_picture(root, picture, index, size, noisy=not sigma and keep == 1.0)
    return picture_task("denoise", clean, is_known, how)


@DATASETS.register(
    "inpaint",
    summary="one picture with missing pixels, fitted from a fixed random input; denoise with other defaults",
    source="Ulyanov, Vedaldi, Lempitsky 2018, Deep Image Prior, 1711.10925, section 3 (half of the pixels missing)",
    options=_options(sigma=0.0, keep=0.5),
    facts=ONE,
)
def inpaint(root: Path | None, **options: object) -> Task:
    """As `denoise`: no noise, and half of the pixels are missing where nothing else is said.

    Args:
        root: the folder of --data-root.
        options: those of `denoise`.

    Raises:
        UserError: everything that is wrong with the picture and the options.
    """
    return denoise(root, **options)  # type: ignore[arg-type]
