"""A small vision transformer, whose heads, neurons, width and blocks can be pruned."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prune_search.recipe.axes import MODELS
from prune_search.recipe.fields import Integer
from prune_search.recipe.problems import Problem, UserError
from prune_search.recipe.registry import Option
from prune_search.tasks.models.shapes import picture

if TYPE_CHECKING:
    from torch import nn


@MODELS.register(
    "small-vit",
    summary="vision transformer of few and narrow blocks; images whose sides are multiples of the patch",
    source="Dosovitskiy et al. 2020, An Image is Worth 16x16 Words, 2010.11929; sized for digits by this project",
    options={
        "patch": Option(Integer(1, 64), 4, "side of a patch in pixels"),
        "width": Option(Integer(2, 4096), 32, "width of the residual stream"),
        "depth": Option(Integer(1, 64), 4, "blocks"),
        "heads": Option(Integer(1, 64), 4, "attention heads of a block"),
        "hidden": Option(Integer(1, 16384), 64, "hidden neurons of a block"),
    },
)
def small_vit(
    shape: tuple[int, ...], classes: int, patch: int, width: int, depth: int, heads: int, hidden: int
) -> nn.Module:
    """Patches, learned places, blocks with norms in front, the mean over the patches and a linear layer.

    Args:
        shape: (channels, height, width) of one example.
        classes: number of outputs.
        patch: its side in pixels.
        width: of the residual stream.
        depth: blocks.
        heads: of a block.
        hidden: neurons of a block.

    Raises:
        UserError: the examples are no pictures or not of whole patches, or heads do not divide the width.
    """
    from prune_search.tasks.models.networks.vision_transformer import VisionTransformer

    inputs, *sides = picture("small-vit", shape, least=patch)
    problems = []
    if any(side % patch for side in sides):
        text = f"small-vit: sides of {sides[0]} and {sides[1]} pixels are not multiples of the patch of {patch}"
        problems.append(Problem("task.model.patch", text))
    if width % heads:
        problems.append(
            Problem("task.model.heads", f"small-vit: a width of {width} is not a multiple of {heads} heads")
        )
    if problems:
        raise UserError(problems)
    return VisionTransformer(
        inputs, (sides[0] // patch) * (sides[1] // patch), classes, patch, width, depth, heads, hidden
    )
