"""Shortens names and values to MLflow's limits."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

MAX_NAME, MAX_PARAM, MAX_TAG = 250, 6000, 8000
_NOT_ALLOWED = re.compile(r"[^A-Za-z0-9_./: -]")


def allowed(name: str) -> str:
    """`name` with ``_`` for what MLflow does not take in the name of a param or metric.

    It takes letters, digits, ``_ . / : -`` and space, and a name that is a normal relative path.
    """
    cleaned = _NOT_ALLOWED.sub("_", name)
    parts = cleaned.split("/")
    # An empty part, "." and ".." would make another path of it.
    if any(part in ("", ".", "..") for part in parts):
        cleaned = "_".join(part.replace("..", "_") for part in parts).strip(".") or "_"
    return cleaned[:MAX_NAME]


def allowed_params(params: Iterable[tuple[str, str]]) -> Mapping[str, str]:
    """Params under names that MLflow takes, each its own; values cut to what it takes."""
    result: dict[str, str] = {}
    for name, value in params:
        base = unique = allowed(name)
        number = 2
        while unique in result:
            unique = f"{base[: MAX_NAME - 5]}-{number}"
            number += 1
        result[unique] = cut(value, MAX_PARAM)
    return result


def cut(text: str, most: int) -> str:
    """`text`, at most so many characters."""
    return text if len(text) <= most else text[: most - 1] + "…"


def written(value: object) -> str:
    """A drawn value as text: numbers so that they read back exactly, the rest as a recipe writes it."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return value if isinstance(value, str) else repr(value)
