"""Figure of how the best network's weights are distributed over its layers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from prune_search.recipe.axes import PICTURES
from prune_search.recipe.facts import Picture
from prune_search.report.figure_data import FigureData
from prune_search.report.figure_style import COLOURS, HEIGHT, WIDTH, grid, log_shares, new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# With more layers their names cannot be read.
MAX_NAMES = 80
# So that a line behind a text does not strike it out.
BEHIND: dict[str, Any] = {"facecolor": "white", "edgecolor": "none", "pad": 0.3}
ROW_INCHES, MAX_INCHES = 0.2, 20.0


@PICTURES.register("layer-density", summary="what each layer of the best network keeps", facts=Picture(place=30))
def layer_density(figure_data: FigureData) -> Figure | None:
    """One bar per layer, in the order of the network: the share of its weights that is left, on a log scale."""
    best = next((row for row in figure_data.rows if row["key"] == figure_data.data["best"]), None)
    trial = figure_data.trial(best) if best is not None else None
    layers = [layer for layer in (trial.result.get("layers", []) if trial is not None else []) if layer["total"]]
    if best is None or not layers:
        return None
    height = min(MAX_INCHES, max(HEIGHT * 0.6, 1.2 + ROW_INCHES * len(layers)))
    figure, (axes,) = new_figure(f"{best['name']}: what each layer keeps", height=height, width=WIDTH)
    shares = [layer["kept"] / layer["total"] for layer in layers]
    floor = min((share for share in shares if share > 0), default=1.0) / 3
    rows = range(len(layers))
    axes.barh(
        rows, [max(share, floor) for share in shares], height=0.7, color=COLOURS[0], edgecolor="black", linewidth=0.4
    )
    for row, (layer, share) in enumerate(zip(layers, shares, strict=True)):
        text = f"{100 * share:.3g} % of {layer['total']:,}" if share else "nothing left"
        beside: dict[str, Any] = {"xytext": (4, 0), "textcoords": "offset points", "va": "center", "fontsize": 7.5}
        axes.annotate(text, (max(share, floor), row), bbox=BEHIND, zorder=5, **beside)
    kept, total = (sum(layer[key] for layer in layers) for key in ("kept", "total"))
    axes.axvline(
        kept / total, color="black", linestyle="--", linewidth=1, label=f"whole network: {100 * kept / total:.3g} %"
    )
    log_shares(axes, floor, 6.0 * max(shares))
    axes.set_yticks(rows, [layer["name"] for layer in layers] if len(layers) <= MAX_NAMES else ["" for _ in rows])
    axes.set_ylim(len(layers) - 0.4, -0.6)
    axes.set_xlabel("weights left in the layer (log scale)")
    grid(axes)
    axes.legend(loc="lower right", bbox_to_anchor=(1.0, 1.0), borderaxespad=0.2)
    return figure
