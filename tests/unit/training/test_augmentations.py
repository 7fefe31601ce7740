"""Augmentations: the right pixels, the same draws everywhere."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from prune_search.recipe.axes import AUGMENTATIONS
from prune_search.recipe.problems import UserError
from prune_search.training.randomness import generator

ALTERING = ("flip", "crop-flip")


def source(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def pictures(batch: int = 64, channels: int = 3, height: int = 8, width: int = 6) -> Tensor:
    """Every pixel has a value of its own, and none is 0."""
    return torch.arange(1.0, batch * channels * height * width + 1).view(batch, channels, height, width)


def windows(picture: Tensor, pad: int) -> list[Tensor]:
    """All crops of one padded picture, each as it is and mirrored."""
    height, width = picture.shape[1:]
    padded = torch.zeros(picture.shape[0], height + 2 * pad, width + 2 * pad)
    padded[:, pad : pad + height, pad : pad + width] = picture
    crops = [padded[:, y : y + height, x : x + width] for y in range(2 * pad + 1) for x in range(2 * pad + 1)]
    return [variant for crop in crops for variant in (crop, crop.flip(-1))]


def test_none_draws_nothing_and_takes_any_shape() -> None:
    inputs, unused = torch.ones(3, 5), source()
    before = unused.get_state()
    assert AUGMENTATIONS["none"].make(inputs, unused) is inputs
    assert torch.equal(unused.get_state(), before)


def test_flip_mirrors_about_half_of_the_pictures_and_leaves_the_others() -> None:
    inputs = pictures(1000, 1, 2, 3)
    outputs = AUGMENTATIONS["flip"].make(inputs, source())
    mirrored = torch.tensor([torch.equal(new, old.flip(-1)) for old, new in zip(inputs, outputs, strict=True)])
    kept = torch.tensor([torch.equal(new, old) for old, new in zip(inputs, outputs, strict=True)])
    assert (mirrored ^ kept).all()
    assert 430 < mirrored.sum() < 570


@pytest.mark.parametrize("pad", [1, 4])
def test_crop_flip_gives_a_window_of_the_padded_picture(pad: int) -> None:
    inputs = pictures()
    outputs = AUGMENTATIONS["crop-flip"].make(inputs, source(), pad=pad)
    for old, new in zip(inputs, outputs, strict=True):
        assert sum(torch.equal(new, window) for window in windows(old, pad)) == 1


def test_crop_flip_reaches_every_window() -> None:
    picture = pictures(1, 1, 3, 4)
    outputs = AUGMENTATIONS["crop-flip"].make(picture.expand(600, -1, -1, -1), source(), pad=1)
    assert len({tuple(output.flatten().tolist()) for output in outputs}) == 18


@pytest.mark.parametrize("name", ALTERING)
def test_the_same_generator_gives_the_same_pictures_and_another_gives_others(name: str) -> None:
    make = AUGMENTATIONS[name].make
    assert torch.equal(make(pictures(), source(1)), make(pictures(), source(1)))
    assert not torch.equal(make(pictures(), source(1)), make(pictures(), source(2)))


@pytest.mark.parametrize("name", ALTERING)
@pytest.mark.parametrize("channels", [1, 3])
def test_channels_last_pictures_come_back_equal_and_channels_last(name: str, channels: int) -> None:
    plain = pictures(channels=channels)
    last = plain.contiguous(memory_format=torch.channels_last)
    from_plain, from_last = AUGMENTATIONS[name].make(plain, source()), AUGMENTATIONS[name].make(last, source())
    assert torch.equal(from_plain, from_last)
    assert from_plain.is_contiguous()
    assert from_last.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("name", ALTERING)
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32, torch.bfloat16])
def test_the_type_is_kept_and_the_inputs_are_not_changed(name: str, dtype: torch.dtype) -> None:
    inputs = pictures(4).to(dtype)
    before = inputs.clone()
    outputs = AUGMENTATIONS[name].make(inputs, source(5))
    assert (outputs.dtype, outputs.shape) == (dtype, inputs.shape)
    assert torch.equal(inputs, before)
    assert not torch.equal(outputs, before)


@pytest.mark.parametrize("name", ALTERING)
def test_inputs_that_are_no_pictures_are_refused(name: str) -> None:
    with pytest.raises(UserError, match=rf"'{name}' needs images .*\[4, 784\]"):
        AUGMENTATIONS[name].make(torch.zeros(4, 784), source())


def test_the_draws_never_change() -> None:
    inputs = torch.arange(1.0, 13.0).view(2, 1, 2, 3).repeat(2, 1, 1, 1)
    flipped = AUGMENTATIONS["flip"].make(inputs, generator(0, "augment", 1))
    cropped = AUGMENTATIONS["crop-flip"].make(inputs, generator(0, "augment", 1), pad=1)
    assert flipped.flatten(1).tolist() == [
        [1, 2, 3, 4, 5, 6],
        [7, 8, 9, 10, 11, 12],
        [3, 2, 1, 6, 5, 4],
        [9, 8, 7, 12, 11, 10],
    ]
    assert cropped.flatten(1).tolist() == [
        [0, 0, 0, 0, 1, 2],
        [8, 7, 0, 11, 10, 0],
        [4, 5, 6, 0, 0, 0],
        [8, 7, 0, 11, 10, 0],
    ]


def test_gaussian_noise_is_drawn_anew_with_its_deviation_and_needs_numbers_with_a_point() -> None:
    make = AUGMENTATIONS["gaussian-noise"].make
    inputs = torch.full((4, 3, 50, 50), 5.0)
    noise = make(inputs, source(1), std=0.2) - inputs
    assert float(noise.mean()) == pytest.approx(0.0, abs=0.005)
    assert float(noise.std()) == pytest.approx(0.2, rel=0.02)
    assert torch.equal(make(inputs, source(1), std=0.2) - inputs, noise)
    assert not torch.equal(make(inputs, source(2), std=0.2) - inputs, noise)
    with pytest.raises(UserError, match=r"needs inputs of floating point \(got int64\)"):
        make(inputs.long(), source(1))
