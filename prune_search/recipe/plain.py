"""Looks into plain data of the canonical form: the value at a key, and whether it has the expected kind."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

from prune_search.recipe.named import Named
from prune_search.recipe.registry import AnyAxis
from prune_search.recipe.step import Step

# A block of the canonical form, of which a key is looked at before it is known what stands there.
Block = Mapping[str, object]
Value = TypeVar("Value")


def known_as(kind: type[Value], value: object, what: str) -> Value:
    """A value of a kind; `what` names it.

    Raises:
        TypeError: it is of another kind.
    """
    if not isinstance(value, kind):
        raise TypeError(f"{what} is {value!r}, no {kind.__name__}")
    return value


def at_key(kind: type[Value], block: Block, key: str) -> Value:
    """What stands at a key.

    Raises:
        KeyError: nothing stands there.
        TypeError: it is of another kind.
    """
    return known_as(kind, block[key], key)


def named_at(axis: AnyAxis, block: Block, key: str) -> Named | None:
    """The registered value at a key; None where the key is left out."""
    return Named.of(axis, block[key]) if key in block else None


def step_at(block: Block, key: str) -> Step | None:
    """The step at a key; None where the key is left out."""
    return Step.parse(at_key(str, block, key)) if key in block else None
