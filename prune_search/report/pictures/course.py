"""Figures over the course of a search: its progress, and the penalties that its trials grew."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from prune_search.ledger.ranking import non_dominated_ranks
from prune_search.recipe.axes import PICTURES
from prune_search.recipe.facts import Picture
from prune_search.recipe.step import Step
from prune_search.report.figure_data import FigureData
from prune_search.report.figure_style import COLOURS, LINES, QUIET, grid, legend, new_figure, short_number

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from prune_search.ledger.records import SearchRecords

MAX_TRACES = 6
GROWING = "growing-penalty"


@PICTURES.register(
    "search-course", summary="what the trials reached one after the other, and the best so far", facts=Picture(place=60)
)
def search_course(figure_data: FigureData) -> Figure | None:
    """A panel per objective, and with two of them the area that the Pareto front dominates so far."""
    told = [(search, _ends(search, figure_data)) for search in figure_data.searches]
    if max((len(values) for _, values in told), default=0) < 3:
        return None
    goals = figure_data.objectives[:2]
    figure, panels = new_figure(
        f"{figure_data.title}: course of the search", len(goals) + (len(goals) == 2), width=9.6, height=3.4
    )
    for place, (direction, metric) in enumerate(goals):
        for number, (search, values) in enumerate(told):
            _so_far(panels[place], [value[place] for value in values], direction, search.name, number)
        panels[place].set_title(f"{direction} {metric}")
    if len(goals) == 2:
        signs = [1.0 if direction == "maximize" else -1.0 for direction, _ in goals]
        everything = [
            [sign * x for sign, x in zip(signs, value, strict=True)] for _, values in told for value in values
        ]
        for number, (_, values) in enumerate(told):
            points = [tuple(sign * x for sign, x in zip(signs, value, strict=True)) for value in values]
            look = {"color": COLOURS[number % len(COLOURS)], "linestyle": LINES[number % len(LINES)]}
            panels[2].step(range(1, len(points) + 1), areas(points, everything), where="post", **look)
        panels[2].set_title("area under the Pareto front")
        panels[2].set_ylim(-0.03, 1.03)
    for axes in panels:
        axes.set_xlabel("trials that have ended")
        grid(axes)
    legend(figure, panels[0])
    return figure


def _ends(search: SearchRecords, figure_data: FigureData) -> list[tuple[float, ...]]:
    """The objectives' figures of the completed trials in the order in which they ended; repeated ones are left out."""
    names = [metric for _, metric in figure_data.objectives[:2]]
    done = [t for t in search.numbered() if t.status == "completed" and t.ended is not None]
    done.sort(key=lambda trial: (trial.ended.time if trial.ended else 0.0, trial.id))
    found = [[trial.metrics.get(name) for name in names] for trial in done]
    return [tuple(float(v) for v in values if v is not None) for values in found if None not in values]


def _so_far(axes: Axes, values: Sequence[float], direction: str, name: str, number: int) -> None:
    better = max if direction == "maximize" else min
    best = [better(values[: place + 1]) for place in range(len(values))]
    colour = COLOURS[number % len(COLOURS)]
    places = range(1, len(values) + 1)
    axes.plot(
        places,
        values,
        "o",
        markersize=3.5,
        markerfacecolor="none",
        color=colour if number else QUIET,
        label=f"{name}: a trial",
    )
    line = LINES[number % len(LINES)]
    axes.step(places, best, where="post", color=colour, linestyle=line, linewidth=1.4, label=f"{name}: best so far")


def areas(points: Sequence[tuple[float, ...]], everything: Sequence[Sequence[float]]) -> list[float]:
    """The area that is dominated by the first n of the points, for each n, as a share of that of all of them.

    Args:
        points: two figures each, larger is better, in their order.
        everything: the points that say what is worst in each figure, and what 1 is.

    Example:
        >>> areas([(1.0, 1.0), (2.0, 0.0), (2.0, 2.0)], [(0.0, 0.0), (2.0, 2.0)])
        [0.25, 0.25, 1.0]
    """
    worst = [min(point[axis] for point in everything) for axis in (0, 1)]
    whole = _dominated([(point[0], point[1]) for point in everything], worst)
    found = [_dominated([(x, y) for x, y in points[: place + 1]], worst) for place in range(len(points))]
    return [area / whole if whole else 1.0 for area in found]


def _dominated(points: Sequence[tuple[float, float]], worst: Sequence[float]) -> float:
    ranks = non_dominated_ranks(points)
    front = sorted({point for point, rank in zip(points, ranks, strict=True) if rank == 0})
    area, before = 0.0, worst[0]
    for x, y in front:
        area += (x - before) * (y - worst[1])
        before = x
    return area


@PICTURES.register(
    "penalty-traces", summary="how the best recipes grew the penalty on the weights to remove", facts=Picture(place=70)
)
def penalty_traces(figure_data: FigureData) -> Figure | None:
    """The growing penalty of the best trials by iteration of its phase, as their recipes say it, to the phase's end."""
    found: list[tuple[Mapping[str, Any], list[tuple[int, float]]]] = []
    for row, recipe, line in figure_data.placed():
        for named in recipe.transforms:
            if named.name == GROWING and len(found) < MAX_TRACES:
                found.append((row, trace(named.options, line.epoch)))
    if not found:
        return None
    figure, (axes,) = new_figure(f"{figure_data.title}: penalties of the best recipes")
    for place, (row, steps) in enumerate(found):
        accuracy = row["metrics"].get(figure_data.quality)
        label = row["name"] + ("" if accuracy is None else f": {short_number(accuracy)}")
        look = {"color": COLOURS[place % len(COLOURS)], "linestyle": LINES[place % len(LINES)]}
        axes.plot(*zip(*steps, strict=True), drawstyle="steps-post", linewidth=1.3, label=label, **look)
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.set_xlabel("iterations of the phase")
    axes.set_ylabel("L2 penalty on the weights to remove")
    grid(axes)
    legend(figure, axes)
    return figure


def trace(options: Mapping[str, Any], epoch: int) -> list[tuple[int, float]]:
    """(iteration, penalty) where the penalty changes, and the end of the phase."""
    every = max(1, Step.parse(str(options["every"])).resolve(0, epoch))
    step, ceiling = float(options["step"]), float(options["ceiling"])
    count = math.ceil(round(ceiling / step, 9))
    # A thousand samples are more than can be seen.
    stride = max(1, count // 1000)
    found = [(place * every, min(ceiling, (place + 1) * step)) for place in range(0, count, stride)]
    held = max(0, count - 1) * every + Step.parse(str(options["stabilise"])).resolve(0, epoch)
    return [*found, (max(0, count - 1) * every, ceiling), (max(held, found[-1][0]), ceiling)]
