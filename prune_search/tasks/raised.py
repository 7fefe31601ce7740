"""An exception of a user's code or of another library, on one line that says where it was raised."""

from __future__ import annotations

import inspect
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from prune_search.recipe.problems import Problem, UserError


def raised(error: BaseException, file: str | None = None) -> str:
    """``KeyError: 'x' (line 3 of my_task.py)``, at most 300 characters of what the error says.

    Args:
        error: whatever was raised.
        file: that is the user's even where it is installed.
    """
    said = " ".join(str(error).split())
    said = said if len(said) <= 300 else f"{said[:299]}…"
    return f"{type(error).__name__}: {said}{line_of(error, file)}"


@contextmanager
def as_user_error(what: str, key: str, file: str | None = None) -> Iterator[None]:
    """Whatever a user's code or another library raises inside becomes one line; what is such a line already stays.

    Args:
        what: said before the error, "example 3 cannot be read:".
        key: where what it is about is written.
        file: that is the user's even where it is installed.

    Raises:
        UserError: something was raised.
    """
    try:
        yield
    except UserError:
        raise
    except (Exception, SystemExit) as error:
        raise UserError([Problem(key, f"{what} {raised(error, file)}")]) from error


def line_of(error: BaseException, file: str | None) -> str:
    """`` (line N of FILE)``: the innermost line that is neither Python's nor an installed package's nor ours."""
    if isinstance(error, SyntaxError) and error.filename:
        return f" (line {error.lineno} of {error.filename})"
    frames = traceback.extract_tb(error.__traceback__)
    # Their code may itself be installed: then it is known by the factory's file.
    theirs = [f for f in frames if not _installed(f.filename)] or [f for f in frames if f.filename == file]
    return f" (line {theirs[-1].lineno} of {theirs[-1].filename})" if theirs else ""


def _installed(filename: str) -> bool:
    """Whether a file belongs to Python, to an installed package or to this one."""
    ours = (Path(inspect.__file__).parent, Path(__file__).parents[1])
    path = Path(filename)
    return filename.startswith("<frozen") or "-packages" in filename or any(folder in path.parents for folder in ours)
