"""Folders of images, one folder per class, as data sets that decode an image when it is needed."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from prune_search.recipe.problems import Problem, UserError, shown, suggestion
from prune_search.tasks.kinds.image_transforms import Transform, coloured
from prune_search.tasks.kinds.look import Look
from prune_search.tasks.kinds.packages import said
from prune_search.tasks.kinds.parts import held_out, missing_parts
from prune_search.tasks.kinds.paths import few, unreadable, wrong

KEY = "task.data.folder"
SUFFIXES = frozenset((".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".pnm", ".ppm", ".tif", ".tiff", ".webp"))
# What a part is called, the first that is there.
PARTS: Mapping[str, tuple[str, ...]] = {
    "train": ("train",),
    "validation": ("val", "validation", "valid"),
    "test": ("test",),
}
LEFT_ALONE = ("thumbs.db", "desktop.ini")
MAX_DECODED = 512
_log = logging.getLogger("prune_search")
# Digests of folders whose images were decoded before in this process.
_DECODED: set[str] = set()


@dataclass(frozen=True)
class Found:
    """The images of one part.

    Attributes:
        names: relative to the folder, with / between folders, in the order of classes and names.
        labels: int64 [N].
    """

    names: tuple[str, ...]
    labels: Tensor

    def __len__(self) -> int:
        return len(self.names)

    def at(self, indices: Tensor) -> Found:
        """Some of them."""
        return Found(tuple(self.names[index] for index in indices.tolist()), self.labels[indices])


class ImageFiles(Dataset[tuple[Tensor, int]]):
    """Images that are decoded when they are asked for: (float32 [C, H, W], label).

    Args:
        folder: that the names are relative to.
        found: the images.
        channels: 1 or 3.
        transform: from an image in that many channels to a tensor.
    """

    def __init__(self, folder: Path, found: Found, channels: int, transform: Callable[[Any], Tensor]) -> None:
        self.folder, self.found, self.channels, self.transform = folder, found, channels, transform

    @property
    def labels(self) -> Tensor:
        """The labels, int64 [N]: known without decoding anything."""
        return self.found.labels

    def __len__(self) -> int:
        return len(self.found)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        image = decoded(self.folder / self.found.names[index], self.channels)
        return self.transform(image), int(self.found.labels[index])


def decoded(path: Path, channels: int, key: str = KEY) -> Image.Image:
    """An image file, decoded, in 1 or 3 channels.

    Args:
        path: of the file.
        channels: 1 or 3.
        key: of the recipe, for messages.

    Raises:
        UserError: it is no image, or damaged.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of odd metadata
            with Image.open(path) as image:
                return coloured(image, channels)
    except Exception as error:  # whatever Pillow raises of damaged bytes
        raise wrong(key, f"{path} cannot be decoded: {said(error, 120)}") from error


def scan(folder: Path) -> tuple[dict[str, Found], tuple[str, ...]]:
    """The images of the parts that there are, and the names of the classes.

    Args:
        folder: with train, val (or validation, valid) and test, each with class folders; or with class folders only.

    Returns:
        Found images by part (``train``, and perhaps ``validation`` and ``test``), and the classes in order.

    Raises:
        UserError: everything that is wrong with the folder.
    """
    if not folder.is_dir():
        raise wrong(KEY, f"{folder} is a file, not a folder of class folders")
    inside = _folders(folder)
    parts = {part: next((name for name in names if name in inside), None) for part, names in PARTS.items()}
    present = {part: folder / name for part, name in parts.items() if name is not None}
    if present and "train" not in present:
        raise wrong(KEY, f"{folder} has {few(path.name for path in present.values())} but no train")
    if present and (more := sorted(set(inside) - {path.name for path in present.values()})):
        _log.warning("%s: ignored %s, which is not a split", folder, few(more))
    classes = tuple(_folders(present.get("train", folder)))
    problems: list[str] = []
    odd: list[str] = []
    found: dict[str, Found] = {}
    for part, place in (present or {"train": folder}).items():
        found[part] = _part(folder, place, classes, part, problems, odd)
    if len(classes) < 2:
        place = present.get("train", folder)
        problems.insert(0, f"{place} needs a folder for each of two or more classes (it has {few(classes) or 'none'})")
    if problems:
        raise wrong(KEY, *problems)
    if odd:
        _log.warning("%s: %d files do not have the name of an image and are left out: %s", folder, len(odd), few(odd))
    return found, classes


def _folders(place: Path) -> list[str]:
    try:
        return sorted(entry.name for entry in os.scandir(place) if entry.is_dir() and not entry.name.startswith("."))
    except OSError as error:
        raise unreadable(place, error, KEY) from error


def _part(folder: Path, place: Path, classes: Sequence[str], part: str, problems: list[str], odd: list[str]) -> Found:
    """The images of a part; what is wrong goes to `problems`, files that are no images to `odd`."""
    names: list[str] = []
    labels: list[int] = []
    for name in _folders(place):
        if name not in classes:
            problems.append(f"{place / name}: train has no class {shown(name)}{suggestion(name, classes)}")
    odd += [str(Path(e.path).relative_to(folder)) for e in os.scandir(place) if e.is_file() and not _ignored(e.name)]
    for label, name in enumerate(classes):
        images = sorted(_images(folder, place / name, odd))
        if not images and part == "train":
            problems.append(f"{place / name} has no images")
        elif not images:
            _log.warning("%s: no images of class %s", place, shown(name))
        names += images
        labels += [label] * len(images)
    if not names and part != "train":
        problems.append(f"{place} has no images")
    return Found(tuple(names), torch.tensor(labels, dtype=torch.int64))


def _images(folder: Path, place: Path, odd: list[str]) -> Iterable[str]:
    for here, below, files in os.walk(place, followlinks=True):
        below[:] = sorted(name for name in below if not name.startswith("."))
        for name in files:
            relative = (Path(here) / name).relative_to(folder).as_posix()
            if os.path.splitext(name)[1].lower() in SUFFIXES and not name.startswith("."):
                yield relative
            elif not _ignored(name):
                odd.append(relative)


def _ignored(name: str) -> bool:
    return name.startswith(".") or name.lower() in LEFT_ALONE


def split(found: Mapping[str, Found], share: float) -> dict[str, Found]:
    """The three parts, those that are missing held out of the training images.

    A validation part is always there afterwards; a test part is held out only where the folder has no parts at all.

    Args:
        found: as `scan` returns it.
        share: of the training images, for each part that is held out: stratified, the same for all trials.

    Raises:
        UserError: there are too few images.
    """
    whole = found["train"]
    rows = held_out(whole.labels, missing_parts(found), share, "images")
    return {**found, **{part: whole.at(mine) for part, mine in rows.items()}}


def check_decoding(folder: Path, names: Sequence[str], channels: int, digest: str) -> None:
    """Decode the images, of more than 512 as many at even distances, once in a process for one digest.

    Raises:
        UserError: with every one that is damaged.
    """
    if digest in _DECODED:
        return
    problems: list[Problem] = []
    chosen = names if len(names) <= MAX_DECODED else [names[i * len(names) // MAX_DECODED] for i in range(MAX_DECODED)]
    for name in chosen:
        try:
            decoded(folder / name, channels)
        except UserError as error:
            problems += error.problems
    if problems:
        more = len(problems) - 20
        extra = wrong(KEY, f"{more} more images cannot be decoded").problems if more > 0 else ()
        raise UserError([*problems[:20], *extra])
    _DECODED.add(digest)


def files(folder: Path, parts: Mapping[str, Found], look: Look, transforms: Any = None) -> dict[str, ImageFiles]:
    """The parts as data sets; only training images are augmented.

    Args:
        folder: of the images.
        parts: the images.
        look: how they become tensors.
        transforms: from (look, whether for training) to a transform; None: our own.
    """
    made = transforms or Transform
    return {
        part: ImageFiles(folder, found, look.channels, made(look, part == "train")) for part, found in parts.items()
    }
