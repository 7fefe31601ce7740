"""The user's functions that workers cannot import by name: they are sent to the workers by value."""

from __future__ import annotations

import hashlib
import linecache
import secrets
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from prune_search.trial.data_and_network import Code, Factory

MAIN = "__main__"


@dataclass(frozen=True)
class GivenCode:
    """Functions of a script or notebook, partials, lambdas and callable objects.

    Ray pickles what ``__main__`` defines by value, and a partial with its arguments, so that a worker calls what the
    user gave, and not what an import of its name would find.

    Attributes:
        functions: by ``model`` and ``data``.
        files: source texts by file name or notebook cell: a node that lacks the files takes the same digests.
        token: tells what this search was given from what another was, without comparing functions.
    """

    functions: Mapping[str, Factory]
    files: Mapping[str, str]
    token: str = field(default_factory=lambda: secrets.token_hex(8))

    @classmethod
    def of(cls, code: Code) -> GivenCode | None:
        """Those of the user's functions that have to travel; None where workers can import all of them.

        Raises:
            UserError: a name in ``__main__`` that is not there.
        """
        from prune_search.tasks.sources import source, source_file
        from prune_search.tasks.user import factory_named

        functions: dict[str, Factory] = {}
        for key, given in (("model", code.model), ("data", code.data)):
            if given is None or (isinstance(given, str) and not given.startswith(f"{MAIN}:")):
                continue
            function = factory_named(given, f"task.{key}") if isinstance(given, str) else given
            if isinstance(given, str) or not has_importable_name(function):
                functions[key] = function
        if not functions:
            return None
        files = {file: source(thing) for thing in functions.values() if (file := source_file(thing)) is not None}
        return cls(functions, {**_main_files(), **files})

    def settings(self) -> dict[str, str]:
        """Digests of what the functions carry, by ``model`` and ``data``: who resumes the search must give the same."""
        return {key: settings_digest(function) for key, function in self.functions.items()}

    def arrive(self) -> GivenCode:
        """In a worker: the source texts are known, and trial after trial has the same functions."""
        if self.token in _ARRIVED:
            return _ARRIVED[self.token]
        for file, text in self.files.items():
            # No time of change: the text is not looked up on this node's disk.
            linecache.cache.setdefault(file, (len(text), None, text.splitlines(keepends=True), file))
        _ARRIVED.clear()
        _ARRIVED[self.token] = self
        return self


_ARRIVED: dict[str, GivenCode] = {}


def has_importable_name(function: Factory) -> bool:
    """Whether an import of the function's module and qualified name finds this very function."""
    module, name = getattr(function, "__module__", None), getattr(function, "__qualname__", None)
    if module in (None, MAIN) or name is None:
        return False
    found: object = sys.modules.get(module)
    for part in name.split("."):
        found = getattr(found, part, None)
    return found is function


def settings_digest(function: Factory) -> str:
    """The sha256 (hex) of what a function carries besides its source: arguments of a partial, closures, defaults."""
    from prune_search.tasks.sources import captured

    return hashlib.sha256(captured(function).encode("utf-8", "surrogatepass")).hexdigest()


def _main_files() -> dict[str, str]:
    """The text of the script that runs, and of the cells of a notebook, which exist in memory only."""
    files = {
        name: "".join(entry[2])
        for name, entry in list(linecache.cache.items())
        if len(entry) == 4 and entry[1] is None and not name.startswith("<frozen")
    }
    script = getattr(sys.modules.get(MAIN), "__file__", None)
    if script is not None and (lines := linecache.getlines(script)):
        files[script] = "".join(lines)
    return files
