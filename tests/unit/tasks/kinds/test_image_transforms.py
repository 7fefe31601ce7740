"""From a decoded image to what a network sees."""

from __future__ import annotations

import numpy
import pytest
import torch
from PIL import Image

from prune_search.tasks.kinds.image_transforms import AUGMENTATIONS, OPERATIONS, Transform, coloured
from prune_search.tasks.kinds.look import Look

RAMP = Image.fromarray(numpy.arange(12 * 20 * 3, dtype=numpy.uint8).reshape(12, 20, 3) % 251)
PLAIN = Look(8, 8, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))


def test_an_image_of_the_size_comes_through_as_its_levels_normalised() -> None:
    image = RAMP.crop((0, 0, 8, 8))
    levels = torch.from_numpy(numpy.array(image)).permute(2, 0, 1) / 255
    assert torch.equal(Transform(PLAIN, False)(image), levels)
    seen = Transform(Look(8, 8), False)(image)
    assert torch.allclose(seen[1], (levels[1] - 0.456) / 0.224)


def test_the_shorter_side_is_resized_and_the_middle_is_cut_out() -> None:
    wide = Image.new("RGB", (40, 20))
    wide.paste((255, 255, 255), (10, 0, 30, 20))
    # The edge of the white middle is blurred by the resizing.
    assert torch.equal(Transform(PLAIN, False)(wide)[:, :, 1:-1], torch.ones(3, 8, 6))
    assert Transform(Look(8, 12), False)(RAMP).shape == (3, 8, 8)
    grey = Look(8, 8, mean=(0.5,), std=(0.5,))
    assert Transform(grey, False)(coloured(RAMP, 1)).shape == (1, 8, 8)


def test_augmentations_are_drawn_from_the_generator_and_of_training_images_only() -> None:
    for names in (("crop",), ("flip",), ("jitter",), ("randaugment",), ("crop", "flip", "jitter", "randaugment")):
        look = Look(8, 8, names, PLAIN.mean, PLAIN.std)
        made = []
        for seed in [*range(12), 0]:
            torch.manual_seed(seed)
            made.append(Transform(look, True)(RAMP))
        assert all(image.shape == (3, 8, 8) and image.min() >= 0 and image.max() <= 1 for image in made)
        assert torch.equal(made[0], made[-1])
        assert any(not torch.equal(image, made[0]) for image in made)
        assert torch.equal(Transform(look, False)(RAMP), Transform(PLAIN, False)(RAMP))


@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_every_operation_keeps_size_and_mode(mode: str) -> None:
    image = RAMP.convert(mode)
    for operation in OPERATIONS:
        for signed in (0.3, -0.3):
            made = operation(image, signed)
            assert (made.size, made.mode) == (image.size, mode)
    for augmentation in AUGMENTATIONS.values():
        assert augmentation(image).size == image.size


def test_palettes_transparency_and_sixteen_bits_become_eight_bits_of_three_colours() -> None:
    for mode in ("P", "RGBA", "LA", "1", "CMYK"):
        assert coloured(RAMP.convert("RGB").convert(mode), 3).mode == "RGB"
    deep = Image.fromarray(numpy.array([[0, 32768], [65535, 256]], dtype=numpy.uint16))
    assert numpy.array(coloured(deep, 1)).tolist() == [[0, 127], [255, 0]]
