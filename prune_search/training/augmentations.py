"""Augmentations of images and other inputs, for a whole batch at a time.

What is drawn is drawn on the CPU and moved, so that a CPU and a CUDA device see the same pictures.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from prune_search.recipe.axes import AUGMENTATIONS
from prune_search.recipe.facts import Augmentation
from prune_search.recipe.fields import Integer, Number
from prune_search.recipe.problems import Problem, UserError
from prune_search.recipe.registry import Option

if TYPE_CHECKING:
    import torch
    from torch import Tensor
else:
    from prune_search.lazy import torch


@AUGMENTATIONS.register("none", summary="no augmentation", source="nothing is done")
def none(inputs: Tensor, generator: torch.Generator) -> Tensor:
    """The inputs themselves, of any shape; nothing is drawn."""
    return inputs


@AUGMENTATIONS.register(
    "flip", summary="each image flipped horizontally with probability 1/2", source="common practice"
)
def flip(inputs: Tensor, generator: torch.Generator) -> Tensor:
    """Mirror each picture with probability 1/2.

    Args:
        inputs: [B, C, H, W], on any device, of any type.
        generator: on the CPU.

    Returns:
        New pictures, of the same shape, type, device and memory format.

    Raises:
        UserError: the inputs are no pictures.
    """
    _require_pictures("flip", inputs)
    mirrored = _coins(inputs, generator)[:, None, None, None]
    return _laid_out_as(inputs, torch.where(mirrored, inputs.flip(-1), inputs))


@AUGMENTATIONS.register(
    "crop-flip",
    summary="zero padding, random crop back to size, and horizontal flip with probability 1/2",
    source="Lee, Xie, Gallagher, Zhang, Tu 2014, arXiv 1409.5185; He et al. 2015, arXiv 1512.03385, section 4.2",
    options={"pad": Option(Integer(1, 16), 4, "zero padding on every side before the crop, in pixels")},
)
def crop_flip(inputs: Tensor, generator: torch.Generator, *, pad: int = 4) -> Tensor:
    """Move each picture by up to `pad` pixels either way, zeros coming in, and mirror it with probability 1/2.

    Args:
        inputs: [B, C, H, W], on any device, of any type.
        generator: on the CPU.
        pad: pixels, 1 … 16.

    Returns:
        New pictures, of the same shape, type, device and memory format.

    Raises:
        UserError: the inputs are no pictures.
    """
    _require_pictures("crop-flip", inputs)
    batch, channels, height, width = inputs.shape
    device = inputs.device
    offsets = torch.randint(0, 2 * pad + 1, (2, batch, 1), generator=generator).to(device)
    mirrored = _coins(inputs, generator)[:, None]
    across = torch.arange(width, device=device)
    rows = offsets[0] + torch.arange(height, device=device)
    columns = offsets[1] + torch.where(mirrored, across.flip(0), across)
    # One gather over flat pixels: half the time of index arrays or unfolded windows on a CPU.
    padded = torch.nn.functional.pad(inputs, (pad, pad, pad, pad)).flatten(2)
    pixels = rows[:, :, None] * (width + 2 * pad) + columns[:, None, :]
    taken = padded.gather(2, pixels.flatten(1)[:, None, :].expand(batch, channels, height * width))
    return _laid_out_as(inputs, taken.view(inputs.shape))


@AUGMENTATIONS.register(
    "gaussian-noise",
    summary="Gaussian noise, drawn anew in every step, added to the inputs",
    source="Ulyanov, Vedaldi, Lempitsky 2018, Deep Image Prior, 1711.10925, section 3 (noise of the fixed input, 1/30)",
    options={"std": Option(Number(0.0, above=True), 1 / 30, "standard deviation, in the unit of the inputs")},
    facts=Augmentation(new_levels=True),
)
def gaussian_noise(inputs: Tensor, generator: torch.Generator, *, std: float = 1 / 30) -> Tensor:
    """Add N(0, std²) to every value.

    Args:
        inputs: [B, …], floating point, on any device.
        generator: on the CPU.
        std: above 0.

    Returns:
        New inputs, of the same shape, type, device and memory format.

    Raises:
        UserError: the inputs are whole numbers.
    """
    if not inputs.is_floating_point():
        text = f"'gaussian-noise' needs inputs of floating point (got {str(inputs.dtype).removeprefix('torch.')})"
        raise UserError([Problem("train.augment", text, form=False)])
    return torch.add(inputs, torch.randn(inputs.shape, generator=generator).to(inputs), alpha=std)


def _coins(inputs: Tensor, generator: torch.Generator) -> Tensor:
    return (torch.rand(inputs.shape[0], generator=generator) < 0.5).to(inputs.device)


def _laid_out_as(inputs: Tensor, outputs: Tensor) -> Tensor:
    contiguous = inputs.is_contiguous() or not inputs.is_contiguous(memory_format=torch.channels_last)
    return outputs.contiguous(memory_format=torch.contiguous_format if contiguous else torch.channels_last)


def _require_pictures(name: str, inputs: Tensor) -> None:
    if inputs.dim() != 4:
        shape = ", ".join(map(str, inputs.shape))
        raise UserError(
            [
                Problem(
                    "train.augment", f"'{name}' needs images [B, C, H, W] (got inputs of shape [{shape}])", form=False
                )
            ]
        )
