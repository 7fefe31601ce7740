"""A small mixture of experts, whole experts of which can be pruned."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prune_search.recipe.axes import MODELS
from prune_search.recipe.fields import Integer
from prune_search.recipe.problems import Problem, UserError
from prune_search.recipe.registry import Option
from prune_search.tasks.models.shapes import flat

if TYPE_CHECKING:
    from torch import nn


@MODELS.register(
    "small-moe",
    summary="mixtures of experts one after the other, each with a router that chooses a few; examples of any shape",
    source="Shazeer et al. 2017, Outrageously Large Neural Networks, 1701.06538; sized for digits by this project",
    options={
        "width": Option(Integer(1, 4096), 32, "width of the residual stream"),
        "depth": Option(Integer(1, 64), 2, "mixtures"),
        "hidden": Option(Integer(1, 16384), 32, "hidden neurons of an expert"),
        "experts": Option(Integer(2, 1024), 8, "experts of a mixture"),
        "chosen": Option(Integer(1, 1024), 2, "experts that an example goes through"),
    },
)
def small_moe(
    shape: tuple[int, ...], classes: int, width: int, depth: int, hidden: int, experts: int, chosen: int
) -> nn.Module:
    """A linear layer, mixtures and a linear layer.

    Args:
        shape: of one example.
        classes: number of outputs.
        width: of the residual stream.
        depth: mixtures.
        hidden: neurons of an expert.
        experts: of a mixture.
        chosen: experts of an example, at most all.

    Raises:
        UserError: more experts are chosen than there are.
    """
    from torch import nn

    from prune_search.tasks.models.networks.mixture import Mixture

    if chosen > experts:
        text = f"small-moe: {chosen} of {experts} experts cannot be chosen"
        raise UserError([Problem("task.model.chosen", text)])
    mixtures = [Mixture(width, hidden, experts, chosen) for _ in range(depth)]
    return nn.Sequential(nn.Flatten(), nn.Linear(flat(shape), width), *mixtures, nn.Linear(width, classes))
