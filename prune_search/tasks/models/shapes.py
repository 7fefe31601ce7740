"""Checks what a model requires of the shape of an example."""

from __future__ import annotations

from math import prod

from prune_search.recipe.problems import Problem, UserError


def flat(shape: tuple[int, ...]) -> int:
    """The number of figures in one example of `shape`."""
    return prod(shape)


def picture(model: str, shape: tuple[int, ...], least: int = 1) -> tuple[int, int, int]:
    """The channels, height and width of one example.

    Args:
        model: who asks, for the message.
        shape: the shape of one example.
        least: the smallest height and width that will do.

    Raises:
        UserError: the examples are no pictures, or smaller than that.
    """
    if len(shape) != 3 or min(shape) < 1:
        raise UserError(
            [
                Problem(
                    "task.model",
                    f"{model} needs images (channels, height, width), but an example has shape {shape}",
                )
            ]
        )
    channels, height, width = shape
    if min(height, width) < least:
        raise UserError(
            [Problem("task.model", f"{model} needs images of at least {least}x{least}, but they are {height}x{width}")]
        )
    return channels, height, width
