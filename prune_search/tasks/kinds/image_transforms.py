"""From a decoded image to what a network sees, with Pillow and torch alone.

Random draws come from torch's generator, which whoever reads an example has seeded for it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy
import torch
from PIL import Image, ImageEnhance, ImageOps
from torch import Tensor

from prune_search.tasks.kinds.look import Look

Picture = Image.Image
INTERPOLATIONS: Mapping[str, Image.Resampling] = MappingProxyType(
    {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}
)
GREY = 128


@dataclass(frozen=True)
class Transform:
    """Resizes, augments where it is for training, and normalises.

    Attributes:
        look: how.
        training: whether augmentations are done.
    """

    look: Look
    training: bool

    def __call__(self, image: Picture) -> Tensor:
        """Float32 [channels, size, size]."""
        look = self.look
        names = look.augment if self.training else ()
        how = INTERPOLATIONS[look.interpolation]
        image = random_resized_crop(image, look.size, how) if "crop" in names else centre(image, look, how)
        for name in names:
            if name != "crop":
                image = AUGMENTATIONS[name](image)
        return normalised(image, look)


def coloured(image: Picture, channels: int) -> Picture:
    """The image in 3 colours, or as 1 grey level; 16 bits become 8."""
    if image.mode.startswith("I"):
        levels = numpy.asarray(image).astype(numpy.float64)
        top = 65535.0 if levels.max(initial=0) > 255 else 255.0
        image = Image.fromarray((levels * (255.0 / top)).clip(0, 255).astype(numpy.uint8))
    return image.convert("RGB" if channels == 3 else "L")


def centre(image: Picture, look: Look, how: Image.Resampling) -> Picture:
    """The shorter side becomes `resize`, then the middle is cut out."""
    width, height = image.size
    scale = look.resize / min(width, height)
    wide, high = (max(look.resize, round(side * scale)) for side in (width, height))
    if (wide, high) != (width, height):
        image = image.resize((wide, high), how)
    left, upper = (wide - look.size) // 2, (high - look.size) // 2
    return image.crop((left, upper, left + look.size, upper + look.size))


def random_resized_crop(image: Picture, size: int, how: Image.Resampling) -> Picture:
    """A part of 8 … 100 % of the area, its sides as 3/4 … 4/3, resized (Szegedy et al. 2015, arXiv 1409.4842)."""
    width, height = image.size
    for _ in range(10):
        area = width * height * _uniform(0.08, 1.0)
        ratio = math.exp(_uniform(math.log(3 / 4), math.log(4 / 3)))
        wide, high = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < wide <= width and 0 < high <= height:
            left, upper = _whole(width - wide + 1), _whole(height - high + 1)
            break
    else:
        wide = high = min(width, height)
        left, upper = (width - wide) // 2, (height - high) // 2
    return image.resize((size, size), how, box=(left, upper, left + wide, upper + high))


def flip(image: Picture) -> Picture:
    """Left and right exchanged, of every other image."""
    return ImageOps.mirror(image) if _whole(2) else image


def jitter(image: Picture) -> Picture:
    """Brightness, contrast and colour times 0.6 … 1.4 each."""
    for enhance in (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color):
        factor = _uniform(0.6, 1.4)
        image = enhance(image).enhance(factor)
    return image


def randaugment(image: Picture, operations: int = 2, strength: float = 0.3) -> Picture:
    """Two operations drawn from thirteen, of strength 9 of 30 (Cubuk et al. 2020, arXiv 1909.13719)."""
    for _ in range(operations):
        signed = strength if _whole(2) else -strength
        image = OPERATIONS[_whole(len(OPERATIONS))](image, signed)
    return image


def _enhanced(kind: Any) -> Callable[[Picture, float], Picture]:
    return lambda image, signed: kind(image).enhance(1 + 0.9 * signed)


def _moved(matrix: Callable[[float, Picture], tuple[float, ...]]) -> Callable[[Picture, float], Picture]:
    def moved(image: Picture, signed: float) -> Picture:
        filled: Any = (GREY,) * 3 if image.mode == "RGB" else GREY
        return image.transform(image.size, Image.Transform.AFFINE, matrix(signed, image), fillcolor=filled)

    return moved


def _rotated(image: Picture, signed: float) -> Picture:
    return image.rotate(30 * signed, fillcolor=(GREY,) * 3 if image.mode == "RGB" else GREY)


OPERATIONS: tuple[Callable[[Picture, float], Picture], ...] = (
    lambda image, signed: image,
    lambda image, signed: ImageOps.autocontrast(image),
    lambda image, signed: ImageOps.equalize(image),
    lambda image, signed: ImageOps.posterize(image, 8 - round(4 * abs(signed))),
    lambda image, signed: ImageOps.solarize(image, round(256 * (1 - abs(signed)))),
    _enhanced(ImageEnhance.Brightness),
    _enhanced(ImageEnhance.Contrast),
    _enhanced(ImageEnhance.Sharpness),
    _rotated,
    _moved(lambda signed, image: (1, 0.3 * signed, 0, 0, 1, 0)),
    _moved(lambda signed, image: (1, 0, 0, 0.3 * signed, 1, 0)),
    _moved(lambda signed, image: (1, 0, 0.45 * signed * image.width, 0, 1, 0)),
    _moved(lambda signed, image: (1, 0, 0, 0, 1, 0.45 * signed * image.height)),
)
AUGMENTATIONS: Mapping[str, Callable[[Picture], Picture]] = MappingProxyType(
    {"flip": flip, "jitter": jitter, "randaugment": randaugment}
)


def normalised(image: Picture, look: Look) -> Tensor:
    """Float32 [channels, H, W]: levels over 255, minus the mean, over the deviation."""
    levels = numpy.array(image, dtype=numpy.float32).reshape(image.height, image.width, look.channels)
    scaled = torch.from_numpy(levels).permute(2, 0, 1).contiguous().div_(255)
    return scaled.sub_(torch.tensor(look.mean).view(-1, 1, 1)).div_(torch.tensor(look.std).view(-1, 1, 1))


def _uniform(low: float, high: float) -> float:
    return low + (high - low) * float(torch.rand(()))


def _whole(count: int) -> int:
    """A whole number below `count`."""
    return int(torch.randint(count, ()))


def torchvision_transform(look: Look, training: bool, v2: Any) -> Callable[[Picture], Tensor]:
    """The same by torchvision.transforms.v2, where a recipe asks for it.

    Args:
        look: how.
        training: whether augmentations are done.
        v2: the module.
    """
    how = getattr(v2.InterpolationMode, look.interpolation.upper())
    names = look.augment if training else ()
    fit = [v2.Resize(look.resize, how, antialias=True), v2.CenterCrop(look.size)]
    steps = [v2.RandomResizedCrop(look.size, interpolation=how, antialias=True)] if "crop" in names else fit
    made = {
        "flip": v2.RandomHorizontalFlip,
        "jitter": lambda: v2.ColorJitter(0.4, 0.4, 0.4),
        "randaugment": lambda: v2.RandAugment(fill=GREY),
    }
    steps += [made[name]() for name in names if name != "crop"]
    steps += [v2.PILToTensor(), v2.ToDtype(torch.float32, scale=True), v2.Normalize(list(look.mean), list(look.std))]
    composed: Callable[[Picture], Tensor] = v2.Compose(steps)
    return composed
