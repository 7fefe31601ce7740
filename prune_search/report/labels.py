"""Labels for the parts of a comparison, in the terminal, in figures and on the page."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def shown_metrics(data: Mapping[str, Any]) -> list[str]:
    """The metrics that a leaderboard has a column for: accuracy, sparsity, the objectives, and what it is sorted by."""
    asked = [written.split()[1] for written in (*data["objectives"], data["sort"])]
    return list(dict.fromkeys(("val/accuracy", "sparsity", *asked)))


def figure(value: float) -> str:
    """A metric as people read it: four decimals; steps in thousands, and operations as powers of ten.

    Example:
        >>> figure(0.98765), figure(1200.0), figure(7274496000.0)
        ('0.9877', '1,200', '7.27e+09')
    """
    if abs(value) < 1000:
        return f"{value:.4f}"
    return f"{value:,.0f}" if abs(value) < 1e6 else f"{value:.3g}"


def group_label(entry: Mapping[str, Any], several: bool = False) -> str:
    """Which trials an entry of ``importance`` is about."""
    if entry["option"] is not None:
        text = f"{entry['option']} only"
    elif entry["sparsity"] is None:
        text = "all"
    else:
        low, high = entry["sparsity"]
        text = f"sparsity {low:g} … {high:g}"
    prefix = f"{' + '.join(entry['searches'])}: " if several else ""
    return f"{prefix}{text} ({entry['trials']} trials)"
