"""Figures of the results: the Pareto front, and accuracy against sparsity."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from prune_search.recipe.axes import PICTURES
from prune_search.recipe.facts import Picture
from prune_search.report.figure_data import FigureData
from prune_search.report.figure_style import (
    DENSE_COLOUR,
    OTHERS,
    QUIET,
    focus,
    grid,
    kinds,
    legend,
    new_figure,
    styles,
    weights_left,
)
from prune_search.report.filters import Filters
from prune_search.report.matrix import WITHIN

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SPARSITY = "sparsity"
# With more error bars a picture is a thicket.
MAX_BARS = 60


@dataclass(frozen=True)
class _Plane:
    """Where networks lie.

    Attributes:
        across: metric of the x axis; sparsity is drawn as the share of weights that is left.
        up: metric of the y axis.
    """

    across: str
    up: str

    def holds(self, network: Mapping[str, Any]) -> bool:
        metrics = network["metrics"]
        return {self.across, self.up} <= set(metrics) and (self.across != SPARSITY or metrics[SPARSITY] < 1.0)

    def at(self, networks: Iterable[Mapping[str, Any]]) -> tuple[list[float], list[float]]:
        metrics = [network["metrics"] for network in networks]
        xs = [found[self.across] for found in metrics]
        return [1 - x for x in xs] if self.across == SPARSITY else xs, [found[self.up] for found in metrics]


@PICTURES.register(
    "pareto", summary="the Pareto front over the first two objectives, by paradigm", facts=Picture(place=10)
)
def pareto(figure_data: FigureData) -> Figure | None:
    """Every network by the first two objectives; those that no other one dominates joined by a line."""
    goals = figure_data.objectives
    plane = _Plane(goals[1][1] if len(goals) > 1 else "steps_trained", goals[0][1])
    rows = [row for row in figure_data.rows if plane.holds(row)]
    if len(rows) < 2 or plane.across == plane.up:
        return None
    figure, (axes,) = new_figure(f"{figure_data.title}: Pareto front")
    _by_paradigm(axes, rows, plane)
    points = [point for point in figure_data.data["points"] if plane.holds(point)]
    if points:
        axes.plot(*plane.at(points), ".", color=QUIET, markersize=4, label="rounds on the way", zorder=1)
    _front(axes, [*(r for r in rows if r["pareto"]), *(p for p in points if p["pareto"])], plane)
    _dense_line(axes, figure_data, plane.up)
    directions = {metric: direction for direction, metric in goals}
    if plane.across == SPARSITY:
        weights_left(axes, [network["metrics"][SPARSITY] for network in (*rows, *points)])
    else:
        axes.set_xlabel(f"{plane.across}  ({_better(directions.get(plane.across, 'minimize'), 'right', 'left')})")
    axes.set_ylabel(f"{plane.up}  ({_better(directions[plane.up], 'up', 'down')})")
    if directions[plane.up] == "maximize":
        focus(axes, plane.at(rows)[1])
    grid(axes)
    legend(figure, axes)
    return figure


def _better(direction: str, more: str, less: str) -> str:
    return f"better: {more if direction == 'maximize' else less}"


def _by_paradigm(axes: Axes, rows: Sequence[Mapping[str, Any]], plane: _Plane) -> None:
    called = kinds([row["paradigm"] for row in rows])
    for name, look in styles(called).items():
        mine = [row for row, kind in zip(rows, called, strict=True) if kind == name]
        axes.plot(*plane.at(mine), linestyle="", label=name, zorder=3, **look.marks)
        spread = [row for row in mine if row["deviation"].get(plane.up)]
        if spread and len(rows) <= MAX_BARS:
            deviations = [row["deviation"][plane.up] for row in spread]
            bars: dict[str, Any] = {"ecolor": look.colour, "elinewidth": 0.8, "capsize": 2, "zorder": 2}
            axes.errorbar(*plane.at(spread), deviations, fmt="none", **bars)


def _front(axes: Axes, members: Sequence[Mapping[str, Any]], plane: _Plane) -> None:
    """The front as a line from member to member, each in a ring: between two of them nothing was reached."""
    if not members:
        return
    xs, ys = zip(*sorted(zip(*plane.at(members), strict=True)), strict=True)
    axes.plot(xs, ys, linestyle=(0, (4, 2)), linewidth=1.0, color="black", zorder=2)
    axes.plot(xs, ys, "o", markersize=11, markerfacecolor="none", markeredgecolor="black", label="Pareto", zorder=4)


def _dense_line(axes: Axes, figure_data: FigureData, metric: str) -> None:
    dense = figure_data.dense(metric)
    if dense is not None:
        axes.axhline(dense, color=DENSE_COLOUR, linewidth=1.2, linestyle=(0, (1, 1)), label="dense network", zorder=1)


@PICTURES.register(
    "accuracy-sparsity", summary="accuracy over the weights left, the dense network a line", facts=Picture(place=20)
)
def accuracy_sparsity(figure_data: FigureData) -> Figure | None:
    """The best network of each paradigm at each sparsity, rounds on the way among them, joined by a line.

    Its title says which paradigm goes furthest within one percent of the dense network.
    Where a search measures the same on training data, a dotted line shows it for the same networks: what fits, and no
    longer generalizes, stands out.
    """
    paradigms = {row["key"]: row["paradigm"] for row in figure_data.rows}
    measured = figure_data.quality
    named = measured.partition("/")[2]
    networks = [
        one for one in (*figure_data.rows, *figure_data.data["points"]) if _Plane(SPARSITY, measured).holds(one)
    ]
    called = kinds([one.get("paradigm") or paradigms.get(one["key"], "") for one in networks])
    curves: dict[str, dict[float, Mapping[str, Any]]] = {}
    for network, name in zip(networks, called, strict=True):
        curve, place = curves.setdefault(name, {}), round(network["metrics"][SPARSITY], 3)
        if place not in curve or figure_data.better(network["metrics"][measured], curve[place]["metrics"][measured]):
            curve[place] = network
    sparsities = {place for curve in curves.values() for place in curve}
    if len(sparsities) < 2:
        return None
    figure, (axes,) = new_figure(
        f"{figure_data.title}: {_finding(figure_data, named, zip(called, networks, strict=True))}"
    )
    for name, look in styles(curves).items():
        found = sorted(curves[name].items())
        xs, ys = [1 - place for place, _ in found], [network["metrics"][measured] for _, network in found]
        if name == OTHERS:
            look = replace(look, line="")
        deviations = [network.get("deviation", {}).get(measured, 0.0) for _, network in found]
        bars = deviations if any(deviations) else None
        axes.errorbar(xs, ys, bars, linestyle=look.line, linewidth=1.1, capsize=2, label=name, **look.marks)
        fits = [(1 - place, network["metrics"].get(f"train/{named}")) for place, network in found]
        if any(fit is not None for _, fit in fits):
            marks = replace(look, filled=False).marks | {"markersize": 3.5}
            shown = list(zip(*((x, fit) for x, fit in fits if fit is not None), strict=True))
            axes.plot(*shown, linestyle=":", linewidth=1.0, label=f"{name}, training data", zorder=1, **marks)
    _dense_line(axes, figure_data, measured)
    weights_left(axes, sparsities)
    focus(axes, [network["metrics"][measured] for curve in curves.values() for network in curve.values()])
    axes.set_ylabel(f"{measured}, best of the paradigm")
    grid(axes)
    legend(figure, axes)
    return figure


def _finding(figure_data: FigureData, named: str, networks: Iterable[tuple[str, Mapping[str, Any]]]) -> str:
    """What the picture shows, in a sentence's length.

    Args:
        figure_data: what is compared.
        named: the metric, without its part of the data.
        networks: (paradigm, network) of all that is drawn, rounds on the way too.
    """
    measured = figure_data.quality
    sparsest, dense = figure_data.data.get("sparsest"), figure_data.dense(measured)
    if sparsest is None or dense is None:
        return f"{named} against sparsity"
    near = Filters.read((sparsest["condition"],), {measured: dense})
    fine = [(one["metrics"][SPARSITY], paradigm) for paradigm, one in networks if near.keeps(one["metrics"])]
    if not fine:
        return f"no network stays within {_percent(WITHIN)} of the dense one's {named}"
    sparsity, paradigm = max(fine)
    return f"{paradigm} keeps {named} within {_percent(WITHIN)} of dense at {100 * (1 - sparsity):.3g} % of the weights"


def _percent(written: str) -> str:
    """A share as people write it: ``1 %``."""
    return written.replace("%", " %")
