"""The error raised by every storage, whatever it is stored on."""

from __future__ import annotations


class StorageError(Exception):
    """Something could not be stored or looked up: a full disk, no permission, a service away. One line, with why."""


def one_line(error: BaseException) -> str:
    """The reason that `error` gives, on one line of at most 200 characters."""
    text = (error.strerror if isinstance(error, OSError) else None) or str(error) or type(error).__name__
    return " ".join(text.split())[:200]
