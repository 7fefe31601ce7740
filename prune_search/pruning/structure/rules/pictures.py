"""Operations on pictures and signals: shuffled pixels and channels, patches, Fourier transforms, complex numbers."""

from __future__ import annotations

from typing import Any

from prune_search.pruning.structure.labels import Dims, fixed
from prune_search.pruning.structure.place import Place
from prune_search.pruning.structure.rules.registry import rule


@rule("pixel_shuffle")
def _shuffled(place: Place) -> Any:
    """[…, C·r², H, W] to […, C, H·r, W·r]."""
    dims, factor = place.tensor("self"), int(place.number(place.arguments["upscale_factor"]))
    lines = dims[-3].reshape(-1, factor * factor)
    return [*dims[:-3], place.tie_all(lines), *_as_they_are(place, dims)]


@rule("pixel_unshuffle")
def _unshuffled(place: Place) -> Any:
    dims, factor = place.tensor("self"), int(place.number(place.arguments["downscale_factor"]))
    return [*dims[:-3], dims[-3].repeat(factor * factor), *_as_they_are(place, dims)]


def _as_they_are(place: Place, dims: Dims) -> Dims:
    for ids in dims[-2:]:
        place.fix(ids)
    return [fixed(size) for size in place.output[-2:]]


@rule("channel_shuffle")
def _mixed_groups(place: Place) -> Any:
    dims, groups = place.tensor("self"), int(place.number(place.arguments["groups"]))
    lines = dims[1].reshape(groups, -1).T
    dims[1] = place.tie_all(lines).repeat(groups)
    return dims


@rule("im2col")
def _patches(place: Place) -> Any:
    """[…, C, H, W] to […, C·k², patches]: every channel with all of its places in a patch."""
    dims = place.tensor("self")
    for ids in dims[-2:]:
        place.fix(ids)
    channels = dims[-3].repeat(place.output[-2] // max(1, dims[-3].size))
    return [*dims[:-3], channels, fixed(place.output[-1])]


@rule("col2im")
def _from_patches(place: Place) -> Any:
    """[…, C·k², patches] to […, C, H, W]."""
    dims = place.tensor("self")
    place.fix(dims[-1])
    channels = place.tie_all(dims[-2].reshape(place.output[-3], -1))
    return [*dims[:-2], channels, *(fixed(size) for size in place.output[-2:])]


@rule("grid_sampler", "grid_sampler_2d", "grid_sampler_3d", "max_unpool2d", "max_unpool3d")
def _resampled(place: Place) -> Any:
    """Other places of every channel's picture; where from is computed once, or for each channel."""
    dims = place.tensor("input" if "input" in place.arguments else "self")
    for ids in dims[2:]:
        place.fix(ids)
    if place.has("grid"):
        for ids in place.tensor("grid")[1:]:
            place.fix(ids)
    if place.has("indices"):
        picks = place.tensor("indices")
        dims[:2] = [place.tie(own, other) for own, other in zip(dims[:2], picks[:2], strict=True)]
        for ids in picks[2:]:
            place.fix(ids)
    return [*dims[:2], *(fixed(size) for size in place.output[2:])]


_OF_ALL = ("fft_fftn", "fft_ifftn", "fft_rfftn", "fft_irfftn", "fft_fftshift", "fft_ifftshift")
_OF_TWO = ("fft_fft2", "fft_ifft2", "fft_rfft2", "fft_irfft2")


@rule("fft_fft", "fft_ifft", "fft_rfft", "fft_irfft", "fft_hfft", "fft_ihfft", *_OF_ALL, *_OF_TWO)
def _transformed(place: Place) -> Any:
    """All places of a transformed dimension make all that comes out; the others pass."""
    dims = place.tensor("self")
    sizes = place.arguments.get("s")
    axes = place.axes("dim", len(dims))
    if place.arguments.get("dim") is None and sizes:
        axes = list(range(len(dims) - len(sizes), len(dims)))
    for axis in axes:
        place.fix(dims[axis])
        dims[axis] = fixed(place.output[axis])
    return dims


@rule("view_as_complex")
def _as_complex(place: Place) -> Any:
    """Two real numbers are a complex one."""
    dims = place.tensor("self")
    place.fix(dims[-1], "its places are the parts of complex numbers")
    return dims[:-1]


@rule("view_as_real")
def _as_real(place: Place) -> Any:
    return [*place.tensor("self"), fixed(2)]
