"""Draws the density of every layer as a bar chart for the model card."""

from __future__ import annotations

import html
from collections.abc import Sequence

from prune_search.pruning.mask.receipt import LayerReceipt

ROW, BAR, LEFT, TOP = 18, 300, 220, 30
MAX_LAYERS = 60
MAX_NAME = 30


def densities_svg(layers: Sequence[LayerReceipt]) -> str:
    """A bar chart of kept shares, in the order of the network.

    Args:
        layers: of a receipt; of more than `MAX_LAYERS` the first ones are drawn, and it is said so.
    """
    shown = layers[:MAX_LAYERS]
    left_out = len(layers) - len(shown)
    height = TOP + ROW * (len(shown) + bool(left_out)) + 10
    width = LEFT + BAR + 90
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}" '
        'font-family="sans-serif" font-size="12" role="img">',
        f'<rect width="{width}" height="{height}" fill="white"/>',
        f'<text x="{LEFT}" y="18" font-weight="bold">kept weights of each layer</text>',
    ]
    for place, layer in enumerate(shown):
        density = layer.kept / layer.total if layer.total else 0.0
        y = TOP + ROW * place
        name = layer.name if len(layer.name) <= MAX_NAME else f"…{layer.name[-MAX_NAME + 1 :]}"
        parts += [
            f'<text x="{LEFT - 6}" y="{y + 12}" text-anchor="end">{html.escape(name)}</text>',
            f'<rect x="{LEFT}" y="{y + 2}" width="{BAR}" height="{ROW - 6}" fill="#eeeeee"/>',
            f'<rect x="{LEFT}" y="{y + 2}" width="{BAR * density:.1f}" height="{ROW - 6}" fill="#333333"/>',
            f'<text x="{LEFT + BAR + 6}" y="{y + 12}">{100 * density:.1f} %</text>',
        ]
    if left_out:
        parts.append(f'<text x="{LEFT}" y="{TOP + ROW * len(shown) + 12}">… and {left_out} more</text>')
    return "\n".join([*parts, "</svg>"]) + "\n"
