"""An entry under test, and the error that says which check it fails."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from prune_search.recipe.axes import OPTIMIZERS
from prune_search.recipe.fields import Value
from prune_search.recipe.reading import BAD, Reading
from prune_search.recipe.recipe import Named
from prune_search.recipe.registry import Axis, Declared, Entry, Made


@dataclass(frozen=True)
class Checked:
    """An entry with the options that it is checked with.

    Attributes:
        axis: what it is, in one word or two ("criterion").
        name: how a recipe names it.
        named: its value, read as a recipe's is.
    """

    axis: str
    name: str
    named: Named

    @classmethod
    def of(cls, axis: Axis[Declared, Made], name: str, options: Mapping[str, object] | None = None) -> Checked:
        """Read an entry's value.

        Raises:
            AssertionError: it is not registered, or cannot be read.
        """
        if name not in axis:
            raise AssertionError(f"{axis.name} {name!r} is not registered: import its module first")
        return cls(axis.name, name, read(axis, {"name": name, **options} if options else name))

    def require(self, holds: object, sentence: str) -> None:
        """Say what does not hold.

        Raises:
            AssertionError: with the entry's name and the sentence.
        """
        if not holds:
            raise AssertionError(f"{self.axis} {self.name!r}: {sentence}")


def reading() -> Reading:
    """As inside a recipe, where a phase's optimizer is merged over the training's."""
    return Reading(outer_optimizer={"name": next(iter(OPTIMIZERS))})


def read(axis: Axis[Declared, Made], raw: Any) -> Named:
    """A value of an axis, as a recipe has it.

    Raises:
        AssertionError: it is not one; with all that is wrong with it.
    """
    told = reading()
    written = Value(axis).read(raw, axis.key, told)
    if written is BAD or told.problems:
        said = "; ".join(f"{problem.path}: {problem.message}" for problem in told.problems)
        raise AssertionError(f"{axis.name} {raw!r} cannot be read: {said}")
    return Named.of(axis, written)


def entry_of(axis: Axis[Declared, Made], name: str) -> Entry[Declared, Made]:
    """An entry.

    Raises:
        AssertionError: there is none of that name.
    """
    if name not in axis:
        raise AssertionError(f"{axis.name} {name!r} is not registered: import its module first")
    return axis[name]
