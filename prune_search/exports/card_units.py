"""Formats figures for a model card: 3.47 GFLOPs, 1.2 MB, 97.3 %."""

from __future__ import annotations

from prune_search.recipe.metric_names import is_share

PREFIXES = ((1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))
# Counts, which have no places behind the point.
COUNTS = ("steps_trained", "collapsed", "model/parameters", "model/nonzero")


def scaled(value: float, unit: str) -> str:
    """A quantity with three significant digits and the prefix of its size.

    Example:
        >>> scaled(3472896000.0, "FLOPs"), scaled(950.0, "B"), scaled(0.0, "B")
        ('3.47 GFLOPs', '950 B', '0 B')
    """
    for size, prefix in PREFIXES:
        if abs(value) >= size:
            return f"{value / size:.3g} {prefix}{unit}"
    return f"{value:.3g} {unit}"


def human(name: str, value: float) -> str:
    """A metric's figure with its unit.

    Example:
        >>> human("train/forward_flops_dense", 3472896000.0), human("val/accuracy", 0.97333), human("val/loss", 0.1)
        ('3.47 GFLOPs', '97.33 %', '0.1000')
    """
    if "flops" in name:
        return scaled(value, "FLOPs")
    if name.endswith("bytes"):
        return scaled(value, "B")
    if name in COUNTS:
        return f"{value:,.0f}"
    if name.startswith("latency/"):
        return f"{value:.3g} ms"
    if is_share(name) or name.startswith("sparsity"):
        return f"{100 * value:.2f} %"
    return f"{value:.4f}" if abs(value) < 1e4 else f"{value:,.0f}"
