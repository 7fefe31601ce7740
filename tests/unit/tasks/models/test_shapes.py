"""What a model asks of the shape of an example."""

from __future__ import annotations

import pytest

from prune_search.recipe.problems import UserError
from prune_search.tasks.models.shapes import flat, picture


def test_a_picture_has_three_sides_and_is_large_enough() -> None:
    assert picture("vgg-16", (3, 32, 28), least=28) == (3, 32, 28)
    for shape in ((64,), (3, 32), (1, 0, 4), (2, 3, 4, 5)):
        with pytest.raises(UserError, match=r"task\.model: vgg-16 needs images \(channels, height, width\)"):
            picture("vgg-16", shape)
    with pytest.raises(UserError, match="vgg-16 needs images of at least 16x16, but they are 32x8"):
        picture("vgg-16", (3, 32, 8), least=16)


def test_an_example_has_as_many_figures_as_its_sides_say() -> None:
    assert flat((3, 4, 5)) == 60
    assert flat(()) == 1
