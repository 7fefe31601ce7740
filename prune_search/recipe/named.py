"""A registered value as a recipe names it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from prune_search.recipe.fields import canonical_default
from prune_search.recipe.problems import Problem, UserError
from prune_search.recipe.registry import AnyAxis, Axis, Declared, Entry, Made


@dataclass(frozen=True)
class Named:
    """A registered value with all its options.

    Attributes:
        name: the value's name.
        options: every option, canonical; those that can be absent are left out where they are.
        written: the canonical form that a file has.
    """

    name: str
    options: Mapping[str, Any]
    written: Any

    @classmethod
    def of(cls, axis: AnyAxis, written: object) -> Named:
        """From the canonical form.

        Raises:
            UserError: the axis has no value of that name; a plug-in that registers it may be missing here.
        """
        given: dict[str, Any] = dict(written) if isinstance(written, Mapping) else {"name": written}
        name = given.pop("name")
        entry = axis.get(name)
        if entry is None:
            raise UserError([Problem(axis.key, axis.unknown(name))])
        defaults = {k: canonical_default(o) for k, o in entry.options.items() if o.later and o.default is not None}
        return cls(name, MappingProxyType({**defaults, **given}), written)

    def entry(self, axis: Axis[Declared, Made]) -> Entry[Declared, Made]:
        """Where it is registered."""
        return axis[self.name]
