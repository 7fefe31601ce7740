"""Makes a task of one picture: which pixels are noisy, missing or held out, and what the network gets as input."""

from __future__ import annotations

import hashlib
import logging
import os
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import torch
from torch import Tensor

from prune_search.recipe.problems import Problem, UserError
from prune_search.tasks.kinds.look import Look
from prune_search.tasks.kinds.packages import package
from prune_search.tasks.kinds.paths import below_root, few, unreadable, wrong
from prune_search.tasks.shapes import IGNORED
from prune_search.tasks.task import Task

KEY = "task.data.picture"
# Of scikit-learn: photographs of 427 x 640 pixels.
KNOWN = ("china", "flower")
CHANNELS = 3
# Largest value of the fixed input, as in the released code of deep image prior.
LARGEST_INPUT = 0.1
_log = logging.getLogger("prune_search")


@dataclass(frozen=True)
class Degraded:
    """What is known of a picture.

    Attributes:
        sigma: standard deviation of the noise, of levels 0 … 1.
        keep: share of the pixels that are known.
        held_out: share of these that are for validation; None: validation sees the clean picture.
        inputs: channels of the fixed input.
        seed: of all draws.
    """

    sigma: float
    keep: float
    held_out: float | None
    inputs: int
    seed: int


def clean_picture(root: Path | None, written: str, index: int, size: int, noisy: bool) -> tuple[Tensor, bool]:
    """The middle of a picture, float32 [3, size, size], levels 0 … 1; and whether it is a clean one.

    Args:
        root: the folder of --data-root.
        written: ``china``, ``flower``, or a file or folder.
        index: of a folder's pictures by name.
        size: height and width; the shorter side is resized to it, then the middle is cut out.
        noisy: whether nothing is done to it, so that a user's picture is one that is to be denoised.

    Raises:
        UserError: there is no such picture, or it cannot be decoded.
    """
    package("PIL.Image", "denoise", "task.data")
    from prune_search.tasks.kinds.image_transforms import Transform
    from prune_search.tasks.kinds.images import decoded

    own = written not in KNOWN
    path = _chosen(below_root(root, written, KEY), index) if own else _of_scikit_learn(written)
    if not own and index:
        raise wrong("task.data.index", f"is for folders, and {written} is one picture (got {index})")
    look = Look(size, size, mean=(0.0,) * CHANNELS, std=(1.0,) * CHANNELS)
    return Transform(look, training=False)(decoded(path, CHANNELS, KEY)), not (own and noisy)


def _of_scikit_learn(name: str) -> Path:
    """The file of one of its pictures, without its two seconds of imports."""
    installed = find_spec("sklearn")
    path = Path(installed.origin or "").parent / "datasets" / "images" / f"{name}.jpg" if installed else None
    if path is None or not path.is_file():
        raise wrong(KEY, f"{name} is a picture of scikit-learn, which is not installed, or no longer has it")
    return path


def _chosen(path: Path, index: int) -> Path:
    """A file, or that of a folder with this index."""
    from prune_search.tasks.kinds.images import SUFFIXES

    if not path.is_dir():
        if index:
            raise wrong("task.data.index", f"is for folders, and {path} is a file (got {index})")
        return path
    try:
        names = sorted(name for name in os.listdir(path) if os.path.splitext(name)[1].lower() in SUFFIXES)
    except OSError as error:
        raise unreadable(path, error, KEY) from error
    if not names:
        raise wrong(KEY, f"{path} has no pictures ({', '.join(sorted(SUFFIXES))})")
    if index >= len(names):
        text = f"{path} has {len(names)} pictures, 0…{len(names) - 1} (got {index}): {few(names)}"
        raise wrong("task.data.index", text)
    return path / names[index]


def picture_task(name: str, clean: Tensor, is_known: bool, how: Degraded) -> Task:
    """The task of fitting a network to one picture.

    Args:
        name: of the data set.
        clean: [3, H, W], levels 0 … 1.
        is_known: whether it is really clean, so that results are compared with it.
        how: what is seen of it.

    Raises:
        UserError: too few pixels are left for training or validation, or validation asks for what is not known.
    """
    _, height, width = clean.shape
    noise = torch.randn(clean.shape, generator=_generator(how.seed, "noise"))
    noisy = (clean + how.sigma * noise).clamp(0.0, 1.0) if how.sigma else clean
    order = torch.randperm(height * width, generator=_generator(how.seed, "pixels"))
    known = round(how.keep * len(order))
    held = 0 if how.held_out is None else round(how.held_out * known)
    _check(known, held, how, is_known)
    drawn = torch.rand((how.inputs, height, width), generator=_generator(how.seed, "input"))
    given = (LARGEST_INPUT * drawn)[None]
    validation = clean if how.held_out is None else _only(noisy, order[:held])
    if how.held_out is None:
        _log.warning(
            "%s: validation compares with the clean picture, which does not exist when you really denoise: use "
            "it for studies, not to choose; held-out-pixels needs no clean picture",
            name,
        )
    if not is_known:
        _log.warning("%s: the picture is assumed to be noisy already: there is no clean one to test against", name)
    return Task(
        train=(given, _only(noisy, order[held:known])[None]),
        validation=(given, validation[None]),
        test=(given, clean[None]) if is_known else None,
        loss={"name": "mse", "ignore_value": float(IGNORED)},
        metrics={"psnr": {"name": "psnr", "ignore_value": float(IGNORED)}},
        classes=CHANNELS,
        name=name,
    )


def _check(known: int, held: int, how: Degraded, is_known: bool) -> None:
    problems = []
    if known - held < 1:
        text = f"leaves no pixel for training: {known} are known, and {held} of them held out"
        problems.append(Problem("task.data.keep" if known < 1 else "task.data.held_out", text))
    if how.held_out is not None and held < 1:
        text = f"{how.held_out:g} of {known} known pixels are less than one pixel, so there is nothing to validate on"
        problems.append(Problem("task.data.held_out", text))
    if how.held_out is None and not is_known:
        text = "clean needs a clean picture: with sigma 0 and keep 1, a picture of your own is taken to be noisy"
        problems.append(Problem("task.data.validate", text))
    if problems:
        raise UserError(problems)


def _only(picture: Tensor, pixels: Tensor) -> Tensor:
    """A picture [C, H, W] whose other pixels are marked as not known."""
    found = torch.full_like(picture, float(IGNORED)).flatten(1)
    found[:, pixels] = picture.flatten(1)[:, pixels]
    return found.reshape(picture.shape)


def _generator(seed: int, word: str) -> torch.Generator:
    """What is drawn for one purpose moves no other draw."""
    number = hashlib.sha256(f"one picture {seed} {word}".encode("ascii")).digest()[:8]
    return torch.Generator().manual_seed(int.from_bytes(number, "big") >> 1)
