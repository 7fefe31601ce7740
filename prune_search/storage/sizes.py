"""Sizes in bytes, as people write and read them."""

from __future__ import annotations

import re

from prune_search.recipe.problems import Problem, UserError, shown

_UNITS = {"": 1, "B": 1}
_UNITS |= {f"{letter}B": 1000**power for power, letter in enumerate("KMGTP", 1)}
_UNITS |= {f"{letter}IB": 1024**power for power, letter in enumerate("KMGTP", 1)}
_SIZE = re.compile(r"(?P<number>[0-9]{1,15}(\.[0-9]{1,6})?) ?(?P<unit>[A-Za-z]{0,3})")


def read_size(text: str, option: str = "--budget") -> int:
    """Bytes from ``20GB``, ``500 MB``, ``1.5TiB`` or a plain number.

    Raises:
        UserError: it is no size.
    """
    match = _SIZE.fullmatch(text.strip())
    unit = _UNITS.get(match["unit"].upper()) if match else None
    if match is None or unit is None:
        raise UserError([Problem(option, f"must be a size such as 20GB, 500MB or 1.5TiB (got {shown(text)})")])
    return int(float(match["number"]) * unit)


def shown_size(size: float) -> str:
    """Bytes as people say them: ``1.5 GB``."""
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if size < 1000 or unit == "TB":
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    raise AssertionError("unreachable")
