"""Follows a dimension of a weight back through operations that only turn, cast or scale it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import fx

from prune_search.pruning.structure.values import Shape

# What these give has the dimensions of their first argument, and is 0 where that is.
SAME = frozenset(
    (
        *("to", "_to_copy", "type_as", "float", "double", "half", "bfloat16", "contiguous", "clone", "alias", "detach"),
        *("lift_fresh_copy", "neg", "abs", "dropout"),
    )
)
SCALED = frozenset(("mul", "div", "multiply", "divide", "true_divide"))


def dimension_before(node: fx.Node, name: str, dim: int, shapes: Mapping[fx.Node, Shape]) -> int | None:
    """Which dimension of a node's first argument is a dimension of what it gives.

    Args:
        node: an operation.
        name: of the operation.
        dim: a dimension of its output, counted from the front.
        shapes: what the nodes give.

    Returns:
        None where it does more than to turn, cast or scale its first argument.
    """
    given, made = (shapes.get(one) if isinstance(one, fx.Node) else None for one in (*node.args[:1], node))
    if not isinstance(given, tuple) or not isinstance(made, tuple):
        return None
    if name in SAME or (name in SCALED and _is_number(node, shapes)):
        return dim
    if name in _TURNS:
        rank = len(made)
        order = _TURNS[name]([_axes(one, rank) for one in node.args[1:]], rank)
        return order[dim] if order is not None else None
    if name in ("unsqueeze", "squeeze", "view", "reshape"):
        return _among_ones(given, made, dim)
    return None


def _is_number(node: fx.Node, shapes: Mapping[fx.Node, Shape]) -> bool:
    """Whether the second operand is one number."""
    other = node.args[1] if len(node.args) > 1 else None
    return isinstance(other, int | float) or (isinstance(other, fx.Node) and shapes.get(other) == ())


def _axes(value: Any, rank: int) -> list[int]:
    return [int(one) % rank for one in (value if isinstance(value, list | tuple) else [value])]


def _swapped(axes: list[list[int]], rank: int) -> list[int]:
    (first,), (second,) = axes[:2]
    order = list(range(rank))
    order[first], order[second] = second, first
    return order


def _last_two(_axes: list[list[int]], rank: int) -> list[int]:
    return [*range(rank - 2), *range(rank - 1, rank - 3, -1)] if rank > 1 else [0]


_TURNS: dict[str, Callable[[list[list[int]], int], list[int] | None]] = {
    **dict.fromkeys(("transpose", "swapaxes", "swapdims"), _swapped),
    **dict.fromkeys(("t", "mT", "mH", "matrix_H", "adjoint"), _last_two),
    "numpy_T": lambda _axes, rank: list(range(rank))[::-1],
    "permute": lambda axes, _rank: axes[0],
}


def _among_ones(given: tuple[int, ...], made: tuple[int, ...], dim: int) -> int | None:
    """The dimension where dimensions of size 1 come or go, and nothing else."""
    wide = [at for at, size in enumerate(given) if size != 1]
    same = [size for size in given if size != 1] == [size for size in made if size != 1]
    if not same or made[dim] == 1:
        return None
    return wide[sum(size != 1 for size in made[:dim])]
