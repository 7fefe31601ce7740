"""The style of figures: distinct markers and line styles first, then colours safe for colour-blind readers.

Colours are those of Okabe & Ito 2008, Color Universal Design, without the yellow, which is not seen on white.
"""

from __future__ import annotations

import io
import itertools
import math
import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from prune_search.recipe.axes import PRESETS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "p", "h")
LINES: tuple[Any, ...] = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (1, 1)), (0, (8, 2)))
HATCHES = ("", "////", "....", "xxxx", "\\\\\\\\", "++", "oo")
DENSE_COLOUR, QUIET = "0.35", "0.6"
# From light to dark, so that it reads in black and white too.
SHADES = "cividis_r"
WIDTH, HEIGHT = 7.6, 4.4
DPI = 150
# Characters of a title to an inch: what is longer goes on in a second line.
TITLE_WIDTH = 10
Format = Literal["svg", "png"]
# As wide as the first of them where it is not at hand.
FONTS = ["DejaVu Sans", "Verdana", "Arial", "sans-serif"]
RC: dict[Any, Any] = {
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "legend.frameon": False,
    "legend.fontsize": 8,
    "svg.fonttype": "none",
    "font.sans-serif": FONTS,
    # A name is text, whatever marks it holds.
    "text.parse_math": False,
}


# Paradigms that are often compared have colours of their own; the other presets follow by their names.
FAMILIAR = (
    *("learning-rate-rewinding", "magnitude-after-training", "gradual-magnitude", "lottery-ticket", "snip"),
    *("late-rewinding", "random", "weight-rewinding", "synflow", "rigl", "set", "grasp", "fine-tune", "greg-1"),
)
# More kinds of marks cannot be told apart; the rest shares one.
MAX_KINDS, OTHERS = 12, "others"


def kinds(names: Sequence[str]) -> list[str]:
    """The names, with ``others`` for those that come after the first dozen different ones."""
    first = list(dict.fromkeys(names))
    told = first if len(first) <= MAX_KINDS else first[: MAX_KINDS - 1]
    return [name if name in told else OTHERS for name in names]


@dataclass(frozen=True)
class FigureStyle:
    """How one thing of several is drawn.

    Attributes:
        colour: of marker and line.
        marker: of matplotlib.
        line: a line style.
        hatch: of a bar.
        filled: whether its markers are; hollow ones tell apart what shares marker and colour.
    """

    colour: str
    marker: str
    line: Any
    hatch: str
    filled: bool = True

    @property
    def marks(self) -> dict[str, Any]:
        """Arguments of `plot` and `errorbar` for markers."""
        face = self.colour if self.filled else "white"
        return {"marker": self.marker, "color": self.colour, "markerfacecolor": face, "markersize": 5.5}


def styles(names: Iterable[str]) -> dict[str, FigureStyle]:
    """A style for each name; the same names, in whatever order, get the same ones, and a paradigm always its own."""
    wanted = sorted(set(names))
    order = {name: place for place, name in enumerate(dict.fromkeys((*FAMILIAR, *sorted(PRESETS))))}
    places = {name: order[name] for name in wanted if name in order}
    taken = frozenset(places.values())
    free = (place for place in itertools.count() if place not in taken)
    places.update({name: next(free) for name in wanted if name not in order and name != OTHERS})
    found: dict[str, FigureStyle] = {}
    for name, place in places.items():
        colour, marker = COLOURS[place % len(COLOURS)], MARKERS[place % len(MARKERS)]
        line, hatch = LINES[place % len(LINES)], HATCHES[place % len(HATCHES)]
        found[name] = FigureStyle(colour, marker, line, hatch, filled=place // len(COLOURS) % 2 == 0)
    if OTHERS in wanted:
        found[OTHERS] = FigureStyle(QUIET, "o", LINES[0], "", filled=False)
    return {name: found[name] for name in sorted(found, key=lambda name: (name == OTHERS, name))}


def new_figure(title: str, panels: int = 1, height: float = HEIGHT, width: float = WIDTH) -> tuple[Figure, list[Axes]]:
    """A figure with panels side by side, and its title."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.subplots(1, panels, squeeze=False)[0]
    figure.suptitle(textwrap.fill(title, int(TITLE_WIDTH * width)), x=0.01, ha="left", fontsize=10.5, fontweight="bold")
    return figure, list(axes)


def legend(figure: Figure, axes: Axes) -> None:
    """A legend beside the panels, where it hides nothing."""
    handles, labels = axes.get_legend_handles_labels()
    unique = dict(zip(labels, handles, strict=True))
    figure.legend(unique.values(), unique.keys(), loc="outside right center")


def weights_left(axes: Axes, sparsities: Iterable[float]) -> None:
    """A logarithmic axis of the share of weights that are left, the sparsest at the right.

    Args:
        axes: whose x values are shares of weights left, over 0.
        sparsities: that are drawn; below 1.
    """
    left = [1 - sparsity for sparsity in sparsities]
    low, high = min(left), max(left)
    log_shares(axes, low / 1.25, min(1.0, high * 1.25))
    axes.invert_xaxis()
    axes.set_xlabel("weights left (log scale)")


def log_shares(axes: Axes, low: float, high: float) -> None:
    """A logarithmic x axis of shares in percent, from `low` to `high`, with a few round numbers along it."""
    # In this order: on a log axis matplotlib first looks at limits that it warns of.
    axes.set_xlim(low, high)
    axes.set_xscale("log")
    ticks = [digit * 10.0**power for power in range(-6, 1) for digit in (1, 2, 5)]
    inside = [tick for tick in ticks if low <= tick <= min(1.0, high)]
    if len(inside) < 3:
        inside = sorted({float(f"{low * (high / low) ** share:.2g}") for share in (0.05, 0.35, 0.65, 0.95)})
    axes.set_xticks(inside, [f"{100 * tick:.3g} %" for tick in inside], minor=False)
    axes.set_xticks([], minor=True)


def focus(axes: Axes, values: Iterable[float]) -> None:
    """Leave far outliers at the lower end of the y axis out of sight, and say how many.

    Far is more than three times the distance of the quartiles below the lower one.
    """
    ordered = sorted(values)
    if len(ordered) < 4:
        return
    low, high = (ordered[round(share * (len(ordered) - 1))] for share in (0.25, 0.75))
    least = low - 3 * (high - low)
    below = sum(value < least for value in ordered)
    if not below or high <= low:
        return
    shown = [value for value in ordered if value >= least]
    top = axes.get_ylim()[1]
    axes.set_ylim(shown[0] - 0.06 * (top - shown[0]), top)
    axes.text(0.99, 0.01, f"↓ {below} further below", transform=axes.transAxes, ha="right", va="bottom", fontsize=8)


def grid(axes: Axes) -> None:
    """Faint lines to read values by."""
    axes.grid(True, color="0.9", linewidth=0.6)
    axes.set_axisbelow(True)


def short_number(value: float) -> str:
    """A figure on a picture."""
    return f"{value:.3g}" if math.isfinite(value) else "–"


def drawn(figure: Figure, written: Format, salt: str) -> bytes:
    """The figure as a file; the same figure gives the same bytes.

    Args:
        figure: to be written.
        written: the format.
        salt: makes the names inside an SVG file unlike those of another picture on the same page.
    """
    import matplotlib

    content = io.BytesIO()
    with matplotlib.rc_context({**RC, "svg.hashsalt": salt}):
        extra: dict[str, Any] = {"metadata": {"Date": None}} if written == "svg" else {"dpi": DPI}
        figure.savefig(content, format=written, **extra)
    return content.getvalue()
