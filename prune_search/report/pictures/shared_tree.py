"""Figure of what a search trained, and for which trials."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prune_search.recipe.axes import PICTURES
from prune_search.recipe.facts import Picture
from prune_search.report.figure_data import FigureData
from prune_search.report.tree_picture import tree_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@PICTURES.register(
    "tree", summary="what was trained: each segment once, darker the more trials share it", facts=Picture(place=90)
)
def shared_tree(figure_data: FigureData) -> Figure | None:
    """The shared tree of the first search."""
    return tree_figure(figure_data.searches[0])
