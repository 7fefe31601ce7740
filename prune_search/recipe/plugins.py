"""Plug-ins: modules outside of this package that register entries.

They are those of installed distributions with an entry point in the group ``prune_search``, and those named in
``PRUNE_SEARCH_PLUGINS`` (comma-separated module names).
"""

from __future__ import annotations

import importlib
import os
import sys
import traceback
from importlib.metadata import entry_points
from pathlib import Path

from prune_search.recipe.problems import UserError

VARIABLE = "PRUNE_SEARCH_PLUGINS"
PACKAGE = Path(__file__).parents[1]

_imported = False
_importing = False
_failure: UserError | None = None


def find_own_modules() -> None:
    """Put the working directory at the front of `sys.path`, as ``python -m`` does.

    A console script has the folder of the script there instead, so that a module beside the user would not be found.
    """
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)


def plugins_are_there() -> bool:
    """Whether all plug-ins have been imported."""
    return _imported and not _importing and _failure is None


def import_plugins() -> None:
    """Import all plug-ins, once per process.

    Raises:
        UserError: one of them cannot be imported; the message names it, the error and the line. Raised again at every
            later call, so that nothing goes on without a plug-in that was asked for.
    """
    global _imported, _importing, _failure
    if _failure is not None:
        raise _failure
    if _imported:
        return
    # First, so that a look-up by a plug-in while it is imported does not begin anew.
    _imported = _importing = True
    try:
        for point in entry_points(group="prune_search"):
            _import(point.module, f"the entry point {point.name!r} of group prune_search")
        named = [part.strip() for part in os.environ.get(VARIABLE, "").split(",")]
        if any(named):
            find_own_modules()
        for name in filter(None, named):
            _import(name, VARIABLE)
    except UserError as error:
        _failure = error
        raise
    finally:
        _importing = False


def _import(name: str, named_by: str) -> None:
    try:
        importlib.import_module(name)
    except (Exception, SystemExit) as error:
        kind = "" if isinstance(error, UserError) else f"{type(error).__name__}: "
        said = " ".join(str(error).split())
        raise UserError(f"{named_by} names {name!r}, which cannot be loaded: {kind}{said}{_line(error)}") from error


def _line(error: BaseException) -> str:
    """`` (line N of FILE)``: the innermost line that belongs to neither Python's import nor this package."""
    if isinstance(error, SyntaxError) and error.filename:
        return f" (line {error.lineno} of {error.filename})"
    theirs = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if not frame.filename.startswith("<frozen")
        and frame.filename != importlib.__file__
        and PACKAGE not in Path(frame.filename).parents
    ]
    return f" (line {theirs[-1].lineno} of {theirs[-1].filename})" if theirs else ""
