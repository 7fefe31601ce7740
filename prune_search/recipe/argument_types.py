"""Checks the types of arguments that a caller in Python gives, and tells them by name and value."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from os import PathLike
from typing import TypeVar

from prune_search.recipe.problems import Problem, UserError, shown

T = TypeVar("T")
Types = tuple[type, ...]
PATH: Types = (str, PathLike)
PATH_SAID = "a path, as a text or a Path"


def of_type(path: str, given: object, types: Types, said: str) -> None:
    """Refuse an argument of another type; True and False are no numbers.

    Args:
        path: what the argument is called.
        given: its value.
        types: that it can have.
        said: the same in words.

    Raises:
        UserError: it has another type.
    """
    if isinstance(given, types) and (bool in types or not isinstance(given, bool)):
        return
    raise UserError([Problem(path, f"must be {said} (got {shown(given)})")])


def of_type_or_none(path: str, given: object, types: Types, said: str) -> None:
    """As `of_type`, where an argument can be left out."""
    if given is not None:
        of_type(path, given, types, f"{said}, or None")


def made(path: str, given: object, kind: type[T], hint: str = "") -> T:
    """An object of settings; None: one with all defaults.

    Args:
        path: what the argument is called.
        given: its value.
        kind: the class of the settings, which can be made without arguments.
        hint: said where it is something else.

    Raises:
        UserError: it is something else.
    """
    if given is None:
        return kind()
    if not isinstance(given, kind):
        text = f"must be a prune_search.{kind.__name__}, or None (got {shown(given)})"
        raise UserError([Problem(path, f"{text}: {hint}" if hint else text)])
    return given


def values(given: object) -> Mapping[str, object]:
    """Dotted keys and their values, as ``set=`` has them; None: none.

    Raises:
        UserError: it is no such mapping.
    """
    if given is None:
        return {}
    said = 'must be a mapping from dotted keys to values, such as {"mask.sparsity": 0.9}'
    if not isinstance(given, Mapping):
        raise UserError([Problem("set", f"{said} (got {shown(given)})")])
    for key in given:
        if not isinstance(key, str):
            raise UserError([Problem("set", f"{said} (got the key {shown(key)})")])
    return given


def texts(path: str, given: object, said: str) -> None:
    """Refuse what is no list of texts; a text alone is none.

    Raises:
        UserError: it is none.
    """
    if not isinstance(given, list | tuple) or not all(isinstance(one, str) for one in given):
        raise UserError([Problem(path, f"must be {said} (got {shown(given)})")])


def function(path: str, given: Callable[..., object] | None, said: str) -> None:
    """Refuse what cannot be called.

    Raises:
        UserError: it can not.
    """
    if given is not None and not callable(given):
        raise UserError([Problem(path, f"must be {said} (got {shown(given)})")])
