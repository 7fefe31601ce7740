"""Figure of which parameters mattered."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prune_search.recipe.axes import PICTURES
from prune_search.recipe.facts import Picture
from prune_search.report.figure_data import FigureData
from prune_search.report.figure_style import grid, legend, new_figure, styles
from prune_search.report.labels import group_label, hole_label

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MAX_KNOBS, MAX_GROUPS = 8, 7


@PICTURES.register(
    "importance", summary="which parameter mattered, by band of sparsity and by option", facts=Picture(place=80)
)
def importance(figure_data: FigureData) -> Figure | None:
    """A bar per hole and band of sparsity: its share of the variance of the first objective (fANOVA)."""
    entries = [entry for entry in figure_data.data.get("importance", ()) if len(entry["knobs"]) > 1][:MAX_GROUPS]
    if not entries:
        return None
    totals: dict[str, float] = {}
    for entry in entries:
        for name, share in entry["knobs"].items():
            totals[name] = max(totals.get(name, 0.0), share)
    names = sorted(totals, key=lambda name: -totals[name])[:MAX_KNOBS]
    labels = [group_label(entry, len(figure_data.searches) > 1) for entry in entries]
    rows = sum(sum(name in entry["knobs"] for entry in entries) for name in names)
    height = max(2.4, 1.1 + 0.2 * rows + 0.2 * len(names))
    figure, (axes,) = new_figure(
        f"{figure_data.title}: which parameter mattered for {entries[0]['metric']}", height=height
    )
    looks = styles(labels)
    ticks, place = [], 0.0
    for name in names:
        begin = place
        for entry, label in zip(entries, labels, strict=True):
            if name in entry["knobs"]:
                look, share = looks[label], entry["knobs"][name]
                axes.barh(
                    place, share, 0.85, color=look.colour, alpha=0.85, hatch=look.hatch, edgecolor="white", label=label
                )
                axes.text(share, place, f" {share:.2f}", va="center", fontsize=7)
                place += 1
        ticks.append((begin + place - 1) / 2)
        place += 0.8
    axes.set_yticks(ticks, [hole_label(name) for name in names])
    axes.set_ylim(place - 0.5, -0.8)
    axes.set_xlim(0, 1.08)
    axes.set_xlabel("share of the variance that it explains, with its interactions (fANOVA)")
    grid(axes)
    legend(figure, axes)
    return figure
