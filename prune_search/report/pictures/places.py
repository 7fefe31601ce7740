"""Figures over training steps: the plane of k1 and k2, and the rewind point."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from prune_search.recipe.axes import PICTURES
from prune_search.recipe.facts import Picture
from prune_search.report.figure_data import FigureData
from prune_search.report.figure_style import DENSE_COLOUR, SHADES, grid, kinds, legend, new_figure, styles

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from prune_search.recipe.clock import Timeline
    from prune_search.report.figure_style import FigureStyle

# Where more places were drawn, those in one of so many parts of the clock share a cell.
MAX_PLACES = 9
Cells = dict[tuple[float, float], list[float]]


@PICTURES.register(
    "k1-k2-plane", summary="accuracy over the steps of the mask (k1) and of the weights (k2)", facts=Picture(place=40)
)
def plane(figure_data: FigureData) -> Figure | None:
    """A heat map over k1 and k2 in shares of the training; a cell tells its best and how many trials it holds."""
    cells: Cells = {}
    for row, _, line in figure_data.placed():
        accuracy = row["metrics"].get(figure_data.quality)
        if accuracy is not None and line.total:
            cells.setdefault((line.k1 / line.total, _k2(line) / line.total), []).append(accuracy)
    cells = _binned(cells)
    across, up = sorted({k1 for k1, _ in cells}), sorted({k2 for _, k2 in cells})
    if len(across) < 2 or len(up) < 2:
        return None
    figure, (axes,) = new_figure(f"{figure_data.title}: the plane of k1 and k2", width=1.8 + 0.85 * max(5, len(across)))
    _heat(figure, axes, figure_data, cells, across, up)
    axes.set_xlabel("k1: the mask is found at (share of training)")
    axes.set_ylabel("k2: the weights are taken from (share of training)")
    return figure


def _k2(line: Timeline) -> int:
    """Weights that stay where they are stand at the end of what was trained."""
    return line.k2 if line.k2 is not None else line.total


def _binned(cells: Cells) -> Cells:
    found: Cells = {}
    places = [sorted({place[axis] for place in cells}) for axis in (0, 1)]
    for place, values in cells.items():
        where = [
            share if len(places[axis]) <= MAX_PLACES else round(share * (MAX_PLACES - 1)) / (MAX_PLACES - 1)
            for axis, share in enumerate(place)
        ]
        found.setdefault((where[0], where[1]), []).extend(values)
    return found


def _heat(
    figure: Figure, axes: Axes, figure_data: FigureData, cells: Cells, across: Sequence[float], up: Sequence[float]
) -> None:
    import numpy as np
    from matplotlib import colormaps

    best = np.full((len(up), len(across)), np.nan)
    for (k1, k2), values in cells.items():
        best[up.index(k2), across.index(k1)] = figure_data.best(values)
    axes.patch.set_hatch("////")
    axes.patch.set_edgecolor("0.85")
    image = axes.imshow(best, cmap=colormaps[SHADES], origin="lower", aspect="auto")
    low, high = np.nanmin(best), np.nanmax(best)
    for (k1, k2), values in cells.items():
        shade = (figure_data.best(values) - low) / (high - low) if high > low else 0.0
        axes.text(
            across.index(k1), up.index(k2), f"{figure_data.best(values):.3f}\n×{len(values)}", ha="center", va="center",
            fontsize=7, color="white" if shade > 0.55 else "black",
        )  # fmt: skip
    axes.set_xticks(range(len(across)), [_share(place) for place in across])
    axes.set_yticks(range(len(up)), [_share(place) for place in up])
    for side in ("top", "right"):
        axes.spines[side].set_visible(True)
    figure.colorbar(image, ax=axes, label=f"{figure_data.quality}, best of ×n trials", shrink=0.85)


def _share(place: float) -> str:
    return {0.0: "0", 1.0: "end"}.get(place, f"{100 * place:.3g} %")


@PICTURES.register(
    "rewind-point", summary="accuracy against how far weights and clock are rewound", facts=Picture(place=50)
)
def rewind_point(figure_data: FigureData) -> Figure | None:
    """Trials whose mask is found at the end of training: by where their weights are taken, and their clock goes on."""
    ends = [
        (row, line)
        for row, recipe, line in figure_data.placed()
        if line.k1 == line.total and recipe.retrain and figure_data.quality in row["metrics"]
    ]
    taken = [(_k2(line) / line.total, row) for row, line in ends if line.total]
    clock = [(line.clock / line.total, row) for row, line in ends if line.total and line.clock is not None]
    panels = [
        (title, found)
        for title, found in (("weights from", taken), ("clock from", clock))
        if len({place for place, _ in found}) > 2
    ]
    if not panels:
        return None
    figure, drawn = new_figure(f"{figure_data.title}: accuracy against the rewind point", len(panels))
    everything = [(place, row) for _, found in panels for place, row in found]
    names = [row["paradigm"] for _, row in everything]
    kind_of = dict(zip(names, kinds(names), strict=True))
    looks = styles(kind_of.values())
    for axes, (title, found) in zip(drawn, panels, strict=True):
        _against(
            axes,
            figure_data,
            [(place, row["metrics"][figure_data.quality], kind_of[row["paradigm"]]) for place, row in found],
            looks,
        )
        axes.set_xlabel(f"{title} (share of training)")
        dense = figure_data.dense(figure_data.quality)
        if dense is not None:
            axes.axhline(dense, color=DENSE_COLOUR, linewidth=1.2, linestyle=(0, (1, 1)), label="dense network")
        grid(axes)
    drawn[0].set_ylabel(figure_data.quality)
    for axes in drawn[1:]:
        axes.sharey(drawn[0])
    legend(figure, drawn[0])
    return figure


def _against(
    axes: Axes, figure_data: FigureData, found: Sequence[tuple[float, float, str]], looks: Mapping[str, FigureStyle]
) -> None:
    """Every trial by place, accuracy and kind, and a line over the best at each place."""
    for name, look in looks.items():
        mine = [(place, accuracy) for place, accuracy, kind in found if kind == name]
        if mine:
            axes.plot(*zip(*mine, strict=True), linestyle="", label=name, **look.marks)
    best: dict[float, float] = {}
    for place, accuracy, _ in found:
        best[place] = figure_data.best((best.get(place, accuracy), accuracy))
    line: dict[str, Any] = {"color": "black", "linewidth": 0.9, "zorder": 1}
    axes.plot(*zip(*sorted(best.items()), strict=True), label="best at the place", **line)
    axes.set_xticks([0, 0.25, 0.5, 0.75, 1.0], ["0", "25 %", "50 %", "75 %", "end"])
    axes.set_xlim(-0.04, 1.04)
