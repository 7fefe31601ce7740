"""Sparsity paths: how the kept share falls from 1 to its final value."""

from __future__ import annotations

from decimal import Decimal

from prune_search.recipe.axes import PATHS


@PATHS.register(
    "linear", summary="the kept share falls by equal amounts: 1 - t(1-k)", source="de Jorge et al. 2021, 2006.09081"
)
def linear(keep: Decimal, t: Decimal) -> Decimal:
    """Kept share at a fraction `t` (0 to 1) of the path that ends at `keep`."""
    return 1 - t * (1 - keep)


@PATHS.register(
    "exponential",
    summary="the kept share falls by equal factors: k^t",
    source="de Jorge et al. 2021, 2006.09081; Tanaka et al. 2020, 2006.05467",
)
def exponential(keep: Decimal, t: Decimal) -> Decimal:
    """Kept share at a fraction `t` (0 to 1) of the path that ends at `keep`."""
    if t == 0:
        return Decimal(1)
    return keep**t if keep else Decimal(0)


@PATHS.register("cubic", summary="fast at first, slow at the end: s(1-(1-t)^3)", source="Zhu & Gupta 2017, 1710.01878")
def cubic(keep: Decimal, t: Decimal) -> Decimal:
    """Kept share at a fraction `t` (0 to 1) of the path that ends at `keep`."""
    return 1 - (1 - keep) * (1 - (1 - t) ** 3)


@PATHS.register("one-shot", summary="everything at once, at the end of the path", source="common practice")
def one_shot(keep: Decimal, t: Decimal) -> Decimal:
    """Kept share at a fraction `t` (0 to 1) of the path that ends at `keep`."""
    return keep if t >= 1 else Decimal(1)
