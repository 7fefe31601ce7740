"""Errors in something a user wrote: all of them together, each with its location."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any


@dataclass(frozen=True)
class Problem:
    """One error in user input.

    Attributes:
        path: dotted path of the key, or ``line N`` for an error in the YAML itself; empty for the whole file.
        message: what is wrong, with the value and a suggestion if there is one.
        source: the file, preset or option that contains it; empty until known.
        form: True for an error in any draw of a space (an unknown key, a wrong type); False for values that are allowed
            one by one but not together.
    """

    path: str
    message: str
    source: str = ""
    form: bool = True

    def __str__(self) -> str:
        return ": ".join(part for part in (self.source, self.path, self.message) if part)


class UserError(Exception):
    """Invalid input (exit code 2). Carries every problem that was found."""

    def __init__(self, problems: Iterable[Problem] | str) -> None:
        if isinstance(problems, str):
            problems = [Problem("", problems)]
        self.problems = tuple(problems)
        super().__init__("\n".join(str(problem) for problem in self.problems))

    def of(self, source: str) -> UserError:
        """The same problems, said of `source` where they name no source yet."""
        return UserError(p if p.source else replace(p, source=source) for p in self.problems)

    def __reduce__(self) -> tuple[type[UserError], tuple[tuple[Problem, ...]]]:
        return (UserError, (self.problems,))


def shown(value: Any, limit: int = 60) -> str:
    """`value` as it is quoted in a message: on one line, at most `limit` characters, nothing unprintable."""
    try:
        text = repr(value)
    except ValueError:  # an integer of more digits than Python prints
        text = f"a number of {value.bit_length()} bits"
    text = text.encode("ascii", "backslashreplace").decode("ascii")
    return text if len(text) <= limit else text[: limit - 1] + "…"


def suggestion(word: Any, known: Iterable[str]) -> str:
    """`` (did you mean 'cubic'?)``, or nothing where no known word is near."""
    if not isinstance(word, str) or len(word) > 80:
        return ""
    near = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f" (did you mean {near[0]!r}?)" if near else ""


def not_one_of(word: Any, known: Iterable[str]) -> str:
    """The message for a word that is not in a list of words."""
    names = sorted(known)
    return f"{shown(word)} is not one of {', '.join(names) or '(nothing is registered yet)'}{suggestion(word, names)}"
