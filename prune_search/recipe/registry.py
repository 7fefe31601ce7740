"""The registry of axes: every value that a recipe can name is registered in exactly one place.

An axis is a mapping from name to `Entry`. The files that register entries are found by the axis itself, at the first
look: the modules of the packages that it names, those of installed distributions with an entry point in the group
``prune_search``, and those named in ``PRUNE_SEARCH_PLUGINS`` (comma-separated module names). They import no torch.
"""

from __future__ import annotations

import dataclasses
import importlib
import os
import pkgutil
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from importlib.metadata import entry_points
from types import MappingProxyType
from typing import Any, Generic, Protocol, TypeVar, cast

from prune_search.recipe.facts import Facts
from prune_search.recipe.problems import Problem, UserError

F = TypeVar("F", bound=Callable[..., object])
Declared = TypeVar("Declared", bound=Facts, covariant=True)
Made = TypeVar("Made", covariant=True)
Kind = TypeVar("Kind")


class Field(Protocol):
    """How one key is read: from what stands in the file to its canonical form."""

    def read(self, raw: Any, path: str, reading: Any) -> Any:
        """The canonical form of `raw`; what is wrong goes to `reading`."""

    def describe(self) -> str:
        """The allowed values, in a few words."""


REQUIRED: Any = type("Required", (), {"__repr__": lambda self: "required"})()


@dataclass(frozen=True)
class Option:
    """One key of a registered value.

    Attributes:
        field: how it is read.
        default: written as in a file; REQUIRED where it must be given; None where it can be absent.
        doc: what it does, with its unit.
        later: added after schema 1 was frozen: left out of the canonical form while it has its default.
    """

    field: Field
    default: Any = REQUIRED
    doc: str = ""
    later: bool = False


@dataclass(frozen=True)
class Entry(Generic[Declared, Made]):
    """One value of one axis.

    Attributes:
        axis: the axis that it stands on.
        name: how a recipe names it.
        make: the function (or small frozen class) that does it; `build` calls it.
        facts: what it declares about itself (what it assumes, needs, goes with).
        summary: what it is, in one line.
        source: authors, year, arXiv id and equation; empty where it is common knowledge.
        options: the keys that it takes.
    """

    axis: str
    name: str
    make: Callable[..., Made]
    facts: Declared
    summary: str
    source: str = ""
    options: Mapping[str, Option] = field(default_factory=dict)

    def build(self, kind: type[Kind], *args: object, **options: object) -> Kind:
        """What the entry makes of its arguments, which has to be a `kind`.

        Raises:
            UserError: it made something else.
        """
        made = self.make(*args, **options)
        if not isinstance(made, kind):
            text = f"{self.name!r} returned a {type(made).__name__} where a {kind.__name__} is needed"
            raise UserError([Problem("", text, self.axis)])
        return made


_LOOKING = threading.RLock()


class Axis(Mapping[str, Entry[Declared, Made]]):
    """The registered values of one axis of a recipe.

    The type says what an entry declares, and what its function makes.

    Args:
        facts: the frozen dataclass of what an entry declares about itself.
        name: what one value is called ("criterion").
        key: where a recipe names it ("mask.criterion").
        homes: packages or modules whose import registers the entries.
    """

    def __init__(self, facts: type[Declared], name: str, key: str, homes: tuple[str, ...] = ()) -> None:
        self.facts = facts
        self.name = name
        self.key = key
        self.homes = homes
        self._entries: dict[str, Entry[Declared, Made]] = {}
        self._found = False

    def register(
        self,
        name: str,
        *,
        summary: str,
        source: str = "",
        options: Mapping[str, Option] | None = None,
        facts: Declared | None = None,
        **declared: object,
    ) -> Callable[[F], F]:
        """A decorator that registers a function as the value `name` of this axis.

        Args:
            name: how a recipe names it.
            summary: what it is, in one line.
            source: authors, year, arXiv id and equation.
            options: the keys that it takes.
            facts: what it declares about itself; None: the axis's defaults.
            declared: single facts by keyword, as plug-ins for version 0.1 have them; in place of `facts`.

        Raises:
            ValueError: the name is taken, or a fact is not one that this axis knows.
        """
        if name in self._entries:
            raise ValueError(f"{self.name} {name!r} is registered twice")
        known = [one.name for one in dataclasses.fields(self.facts)]
        unknown = set(declared) - set(known)
        if unknown or (facts is not None and declared):
            what = f"unknown facts {sorted(unknown)}" if unknown else "facts twice, as one value and by keyword"
            raise ValueError(f"{self.name} {name!r} declares {what}; known: {sorted(known)}")
        own = facts if facts is not None else self.facts(**declared)

        def remember(make: F) -> F:
            taken = MappingProxyType(dict(options or {}))
            self._entries[name] = Entry(self.name, name, cast(Callable[..., Made], make), own, summary, source, taken)
            return make

        return remember

    def withdraw(self, name: str) -> None:
        """Take an entry out again (for tests and notebooks that register one at run time)."""
        del self._entries[name]

    def _look(self) -> dict[str, Entry[Declared, Made]]:
        # Within the lock an import that looks the axis up again sees what is there so far; other threads wait.
        with _LOOKING:
            if not self._found:
                self._found = True
                for home in self.homes:
                    _import_all(home)
                _import_plugins()
        return self._entries

    def __getitem__(self, name: str) -> Entry[Declared, Made]:
        return self._look()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._look())

    def __len__(self) -> int:
        return len(self._look())


# Any axis, whatever its entries declare.
AnyAxis = Axis[Facts, object]
AnyEntry = Entry[Facts, object]


def _import_all(home: str) -> None:
    module = importlib.import_module(home)
    for found in pkgutil.iter_modules(getattr(module, "__path__", ())):
        importlib.import_module(f"{home}.{found.name}")


_plugins_imported = False


def _import_plugins() -> None:
    global _plugins_imported
    if _plugins_imported:
        return
    _plugins_imported = True
    for point in entry_points(group="prune_search"):
        point.load()
    for name in filter(None, (part.strip() for part in os.environ.get("PRUNE_SEARCH_PLUGINS", "").split(","))):
        try:
            importlib.import_module(name)
        except ImportError as error:
            raise UserError(f"PRUNE_SEARCH_PLUGINS names {name!r}, which cannot be imported: {error}") from error
