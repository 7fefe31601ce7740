"""Figures of what a search expects: its best recipe over paid steps beside random search, and each hole's effect."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from prune_search.recipe.axes import PICTURES
from prune_search.recipe.facts import Picture
from prune_search.report.figure_data import FigureData
from prune_search.report.figure_style import COLOURS, LINES, QUIET, grid, legend, new_figure
from prune_search.report.labels import hole_label

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MAX_EFFECTS, ACROSS = 6, 3
MAX_LABEL = 18
WIDE = 20.0


@PICTURES.register(
    "expected-course",
    summary="the expected best figure over paid steps with its 95 % interval, beside random search",
    facts=Picture(place=62),
)
def expected_course(figure_data: FigureData) -> Figure | None:
    """A line per search over its paid steps; what chance would have reached is dashed."""
    told = [one for one in figure_data.data.get("believed", ()) if len(one["course"]) > 1]
    if not told:
        return None
    metric = told[0]["metric"]
    figure, (axes,) = new_figure(f"{figure_data.title}: expected {metric} of the best recipe so far")
    for number, one in enumerate(told):
        colour, course = COLOURS[number % len(COLOURS)], one["course"]
        steps = [point["steps"] for point in course]
        name = one["search"] if len(told) > 1 else "expected"
        low, high = ([point[end] for point in course] for end in ("low", "high"))
        axes.fill_between(steps, low, high, step="post", color=colour, alpha=0.18, linewidth=0)
        axes.step(steps, [point["value"] for point in course], where="post", color=colour, label=name)
        by_chance = [(point["steps"], point["chance"]) for point in course if point["chance"] is not None]
        if by_chance:
            label = "chance" if len(told) == 1 else f"chance, {name}"
            look = {"color": QUIET if len(told) == 1 else colour, "linestyle": LINES[1], "label": label}
            axes.plot(*zip(*by_chance, strict=True), **look)
    axes.set_xlabel("paid steps")
    axes.set_ylabel(metric)
    grid(axes)
    legend(figure, axes)
    return figure


@PICTURES.register(
    "effects",
    summary="the estimated effect of each hole: the expected figure over its values, with its 95 % interval",
    facts=Picture(place=78),
)
def effects(figure_data: FigureData) -> Figure | None:
    """A panel per hole of the first search that believes something, the largest effect first (partial dependence)."""
    told = next((one for one in figure_data.data.get("believed", ()) if one["effects"]), None)
    if told is None:
        return None
    from matplotlib.figure import Figure

    shown = told["effects"][:MAX_EFFECTS]
    rows = -(-len(shown) // ACROSS)
    figure = Figure(figsize=(9.6, 0.6 + 2.3 * rows), layout="constrained")
    panels = figure.subplots(rows, min(ACROSS, len(shown)), squeeze=False, sharey=True).flat
    figure.suptitle(
        f"{told['search']}: {told['metric']} as the search estimates it",
        x=0.01,
        ha="left",
        fontsize=10.5,
        fontweight="bold",
    )
    for axes, effect in zip(panels, shown, strict=False):
        _effect(axes, effect["points"])
        axes.set_title(_cut(hole_label(effect["hole"]), 2 * MAX_LABEL))
        grid(axes)
    for axes in list(panels)[len(shown) :]:
        axes.set_visible(False)
    return figure


def _effect(axes: Axes, points: Sequence[Mapping[str, Any]]) -> None:
    values = [point["value"] for point in points]
    below = [max(0.0, value - point["low"]) for value, point in zip(values, points, strict=True)]
    above = [max(0.0, point["high"] - value) for value, point in zip(values, points, strict=True)]
    xs = [point["x"] for point in points]
    numbers = [x for x in xs if isinstance(x, int | float) and not isinstance(x, bool)]
    if len(numbers) == len(xs) > 2:
        axes.errorbar(xs, values, yerr=(below, above), color=COLOURS[0], marker="o", markersize=4, capsize=2)
        if min(numbers) > 0 and max(numbers) / min(numbers) >= WIDE:
            axes.set_xscale("log")
        return
    axes.errorbar(range(len(xs)), values, yerr=(below, above), color=COLOURS[0], fmt="o", markersize=4, capsize=2)
    labels = [_cut(str(x), MAX_LABEL) for x in xs]
    tilted = sum(map(len, labels)) > 24
    axes.set_xticks(
        range(len(xs)), labels, rotation=35 if tilted else 0, ha="right" if tilted else "center", fontsize=7
    )


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else "…" + text[1 - most :]
