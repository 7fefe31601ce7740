"""The registry of axes: every value that a recipe can name is registered in exactly one place.

An axis is a mapping from name to `Entry`. The files that register entries are found by the axis itself, at the first
look: the modules of the packages that it names, and the plug-ins (see `prune_search.recipe.plugins`). They import no
torch.
"""

from __future__ import annotations

import dataclasses
import functools
import importlib
import inspect
import pkgutil
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar, cast

from prune_search.recipe.facts import Facts
from prune_search.recipe.plain_data import Plain
from prune_search.recipe.plugins import import_plugins, plugins_are_there
from prune_search.recipe.problems import Problem, UserError, shown, suggestion
from prune_search.recipe.reading import Reading

if TYPE_CHECKING:
    from prune_search.recipe.reading import Reading

F = TypeVar("F", bound=Callable[..., object])
Declared = TypeVar("Declared", bound=Facts, covariant=True)
Made = TypeVar("Made", covariant=True)
Kind = TypeVar("Kind")


class Field(Protocol):
    """How one key is read: from what stands in the file to its canonical form."""

    def read(self, raw: Plain, path: str, reading: Reading) -> Plain:
        """The canonical form of `raw`, or BAD; what is wrong goes to `reading`."""

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
        released: what the released code of the paper does, where the default is what version 0.1 did: it is the default
            of the library functions, of which nothing is stored.
        in_0_1: the default that version 0.1 had, where it was another: what the spaces of its searches mean.
    """

    field: Field
    default: Any = REQUIRED
    doc: str = ""
    later: bool = False
    in_0_1: Any = None
    released: Any = None


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
        member: of a family, what is written behind the slash, such as ``NAME`` of ``timm/NAME``; empty elsewhere.
    """

    axis: str
    name: str
    make: Callable[..., Made]
    facts: Declared
    summary: str
    source: str = ""
    options: Mapping[str, Option] = field(default_factory=dict)
    member: str = ""

    @property
    def shown(self) -> str:
        """Its name as lists show it: that of a family with what follows the slash."""
        return f"{self.name}/{self.member}" if self.member else self.name

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


@dataclass(frozen=True)
class Call:
    """How the functions of an axis are called: ``make(*takes, **options)``.

    Attributes:
        takes: the arguments by position.
        named: keywords besides the options.
        declared: from the name of a fact to the keyword that is given to those that declare it.
        apart: options that are not passed on by keyword, since the caller reads them itself.
    """

    takes: tuple[str, ...] = ()
    named: tuple[str, ...] = ()
    declared: Mapping[str, str] = field(default_factory=dict)
    apart: tuple[str, ...] = ()


def wrong_signature(make: Callable[..., object], call: Call | None, options: Iterable[str], declared: Facts) -> str:
    """What is wrong with a function that is to be called so, with every option by keyword; empty where nothing is."""
    how = call or Call()
    keywords = [key for key in options if key not in how.apart]
    keywords += [*how.named, *(key for fact, key in how.declared.items() if getattr(declared, fact))]
    given = dict.fromkeys(keywords)
    try:
        signature = inspect.signature(make)
    except ValueError:  # a builtin that does not tell
        return ""
    try:
        if call is None:
            signature.bind_partial(**given)
        else:
            signature.bind(*how.takes, **given)
    except TypeError as error:
        called = ", ".join([*how.takes, *(f"{key}=…" for key in given)])
        return f"is called as {getattr(make, '__name__', 'its function')}({called}), which does not fit: {error}"
    return ""


_LOOKING = threading.RLock()
MAX_MEMBER = 400


class Axis(Mapping[str, Entry[Declared, Made]]):
    """The registered values of one axis of a recipe.

    The type says what an entry declares, and what its function makes. A family is an entry for many names: of
    ``timm/resnet18`` the family is ``timm``, and its function is called with ``member="resnet18"``. A look-up of such a
    name finds it; iteration, which lists what can be built, leaves families out (see `families`).

    Args:
        facts: the frozen dataclass of what an entry declares about itself.
        name: what one value is called ("criterion").
        key: where a recipe names it ("mask.criterion").
        homes: packages or modules whose import registers the entries.
        call: how functions of this axis are called; None: any way, so that only their options are checked.
    """

    def __init__(
        self,
        facts: type[Declared],
        name: str,
        key: str,
        homes: tuple[str, ...] = (),
        call: Call | None = None,
    ) -> None:
        self.facts = facts
        self.name = name
        self.key = key
        self.homes = homes
        self.call = call
        self._entries: dict[str, Entry[Declared, Made]] = {}
        self._families: dict[str, Entry[Declared, Made]] = {}
        self._found = False
        self._whole = False

    def register(
        self,
        name: str,
        *,
        summary: str = "",
        source: str = "",
        options: Mapping[str, Option] | None = None,
        facts: Declared | None = None,
        member: str = "",
        **declared: object,
    ) -> Callable[[F], F]:
        """A decorator that registers a function as the value `name` of this axis.

        Args:
            name: how a recipe names it.
            summary: what it is, in one line; by default the first line of the function's docstring.
            source: authors, year, arXiv id and equation.
            options: the keys that it takes.
            facts: what it declares about itself; None: the axis's defaults.
            member: where it is a family: what stands behind the slash, in capitals (``NAME``); the function is given it
                by the keyword ``member``. Empty: it is one value.
            declared: single facts by keyword, as plug-ins for version 0.1 have them; in place of `facts`.

        Raises:
            ValueError: the name is taken, nothing says what it is, a fact is not one that this axis knows, or the
                function cannot be called with the axis's arguments and the options.
        """
        self._refuse_taken(name)
        known = [one.name for one in dataclasses.fields(self.facts)]
        unknown = set(declared) - set(known)
        if unknown or (facts is not None and declared):
            what = f"unknown facts {sorted(unknown)}" if unknown else "facts twice, as one value and by keyword"
            raise ValueError(f"{self.name} {name!r} declares {what}; known: {sorted(known)}")
        own = facts if facts is not None else self.facts(**declared)
        if not isinstance(own, self.facts):
            text = f"must be given as facts={self.facts.__name__}(…) (got a {type(own).__name__})"
            raise ValueError(f"{self.name} {name!r}: facts {text}")

        def remember(make: F) -> F:
            if not self._found and not getattr(make, "__module__", "").startswith(self.homes):
                # A plug-in that comes before the first look must not take a name of this package's own.
                self._import_homes()
            self._refuse_taken(name)
            taken = MappingProxyType(dict(options or {}))
            told = summary or (inspect.getdoc(make) or "").partition("\n")[0]
            if not told:
                raise ValueError(f"{self.name} {name!r} has no description: give it a summary or a docstring")
            if wrong := wrong_signature(make, self.call, [*taken, "member"] if member else taken, own):
                raise ValueError(f"{getattr(make, '__module__', '?')}: {self.name} {name!r} {wrong}")
            entry = Entry(self.name, name, cast(Callable[..., Made], make), own, told, source, taken, member)
            (self._families if member else self._entries)[name] = entry
            return make

        return remember

    def _refuse_taken(self, name: str) -> None:
        if name in self._entries or name in self._families:
            raise ValueError(f"{self.name} {name!r} is registered twice")

    def withdraw(self, name: str) -> None:
        """Take an entry out again (for tests and notebooks that register one at run time)."""
        del (self._families if name in self._families else self._entries)[name]

    def _look(self) -> dict[str, Entry[Declared, Made]]:
        # Once everything is there, nobody waits for anybody.
        if not (self._whole and plugins_are_there()):
            with _LOOKING:
                self._import_homes()
                import_plugins()
        return self._entries

    def _import_homes(self) -> None:
        # Within the lock an import that looks the axis up again sees what is there so far; other threads wait.
        with _LOOKING:
            if not self._found:
                self._found = True
                for home in self.homes:
                    _import_all(home)
                self._whole = True

    def __getitem__(self, name: str) -> Entry[Declared, Made]:
        found = self._look().get(name)
        return self._of_a_family(name) if found is None else found

    def _of_a_family(self, name: str) -> Entry[Declared, Made]:
        head, _, member = name.partition("/") if isinstance(name, str) else ("", "", "")
        family = self._families.get(head)
        if family is None or not member.strip() or not member.isprintable() or len(member) > MAX_MEMBER:
            raise KeyError(name)
        return dataclasses.replace(family, name=name, make=functools.partial(family.make, member=member), member="")

    @property
    def families(self) -> Mapping[str, Entry[Declared, Made]]:
        """The families, by the part of their names before the slash."""
        self._look()
        return MappingProxyType(self._families)

    def listed(self) -> list[Entry[Declared, Made]]:
        """Every value and every family, by name, as lists show them."""
        return sorted((*self.values(), *self.families.values()), key=lambda entry: entry.shown)

    def unknown(self, name: object, known: Iterable[Entry[Declared, Made]] | None = None) -> str:
        """The message for a name that is not registered.

        Args:
            name: as it is written.
            known: what may stand in its place; None: all of the axis.
        """
        entries = self.listed() if known is None else sorted(known, key=lambda entry: entry.shown)
        listed = ", ".join(entry.shown for entry in entries) or "(nothing is registered yet)"
        families = {entry.name: entry for entry in entries if entry.member}
        if isinstance(name, str) and (own := families.get(name.rstrip("/"))):
            return f"{shown(name)} is a family of {self.name}s: write {own.shown}"
        head, slash, member = name.partition("/") if isinstance(name, str) else ("", "", "")
        near = suggestion(head, families) if member else ""
        # What is near to a family's name is meant with all that follows the slash.
        near = near.replace("'?)", f"/{member}'?)") if near and len(member) <= 80 and member.isprintable() else ""
        near = near or suggestion(name, [entry.name for entry in entries if not (slash and entry.member)])
        return f"{shown(name)} is not one of {listed}{near}"

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
