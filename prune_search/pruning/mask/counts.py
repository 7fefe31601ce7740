"""Exact counts of kept units, in decimal arithmetic so that every platform rounds alike."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal, localcontext

from prune_search.recipe.blocks import Sparsity

PRECISION = 50
HALF = Decimal("0.5")


def exact(number: float | Decimal) -> Decimal:
    """The decimal that a float is written as: 0.9 is 9/10."""
    return number if isinstance(number, Decimal) else Decimal(repr(float(number)))


def keep_share(sparsity: Sparsity, round_number: int, rounds: int) -> Decimal:
    """Kept share after a round.

    Args:
        sparsity: a share: ``{final: s}``: 1 - (1-s)^(r/R) is pruned after round r of R; ``{per_round: p}``: 1 -
            (1-p)^r.
        round_number: r, from 1.
        rounds: R.

    Example:
        >>> keep_share(Sparsity.of({"per_round": 0.2}), 2, 11)
        Decimal('0.64')
    """
    with localcontext() as context:
        context.prec = PRECISION
        if sparsity.per_round is not None:
            return (1 - exact(sparsity.per_round)) ** round_number
        if sparsity.final is None:
            raise ValueError(f"a sparsity of the form {sparsity.form} is no share")
        return share_after(1 - exact(sparsity.final), round_number, rounds)


def share_after(final: Decimal, round_number: int, rounds: int) -> Decimal:
    """k^(r/R): the kept share after round r of R whose last one keeps k."""
    if round_number == rounds:
        return final
    with localcontext() as context:
        context.prec = PRECISION
        return final ** (Decimal(round_number) / Decimal(rounds)) if final else Decimal(0)


def keep_count(total: int, share: Decimal, rounding: str = "half-up") -> int:
    """Kept units of `total`.

    Args:
        total: units, at least 0.
        share: kept share k, 0 to 1.
        rounding: ``half-up``: ⌊kN+½⌋ kept; ``floor-keep``: ⌊kN⌋ kept; ``floor-drop``: ⌊(1-k)N⌋ removed.
    """
    with localcontext() as context:
        context.prec = PRECISION
        return ROUNDINGS[rounding](total, share)


ROUNDINGS = {
    "half-up": lambda total, share: int((share * total + HALF).to_integral_value(ROUND_FLOOR)),
    "floor-keep": lambda total, share: int((share * total).to_integral_value(ROUND_FLOOR)),
    "floor-drop": lambda total, share: int((share * total).to_integral_value(ROUND_CEILING)),
}


def allocate(total: int, wanted: Sequence[float], capacity: Sequence[int], least: int = 0) -> list[int]:
    """Whole numbers that sum to `total`, near `wanted`, none above its capacity.

    Floors first, then one more each in the order of the largest remainder (ties: first in order) until the sum is met.

    Args:
        total: the sum; where the capacities do not reach it, their sum, and where the lower bounds are more, theirs.
        wanted: real numbers ≥ 0 that sum to about `total`.
        capacity: upper bounds.
        least: lower bound of each, as far as its capacity goes.
    """
    bounds = [min(least, cap) for cap in capacity]
    total = max(min(total, sum(capacity)), sum(bounds))
    counts = [max(min(int(want), cap), low) for want, cap, low in zip(wanted, capacity, bounds, strict=True)]
    order = sorted(range(len(counts)), key=lambda index: (-(wanted[index] - int(wanted[index])), index))
    while sum(counts) > total:
        for index in reversed(order):
            if counts[index] > bounds[index] and sum(counts) > total:
                counts[index] -= 1
    while sum(counts) < total:
        for index in order:
            if counts[index] < capacity[index] and sum(counts) < total:
                counts[index] += 1
    return counts
