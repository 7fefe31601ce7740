"""Where a search's MLflow is, as search.json records it, and SQLite files as URIs.

An SQLite file in the storage is kept relative to it (``sqlite:///mlflow.db``), so that it is found where the storage is
moved, mounted elsewhere or typed otherwise. Of an object store, which cannot hold one, it is relative to the storage's
side folder on the machine that reads it.

A path in a URI is quoted where it has to be: SQLAlchemy takes ``%2F`` for a slash, and what follows ``?`` for options.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from prune_search.storage.files import side_folder
from prune_search.storage.places import StoragePath, resolved

SQLITE, DATABASE = "sqlite:///", "mlflow.db"
# With the driver's name in it: behind plain sqlite:/// MLflow takes the quoted path for a path, and makes its folders.
WITH_DRIVER = "sqlite+pysqlite:///"
_FILE = re.compile(r"sqlite(?:\+\w+)?:///(?P<path>[^?]*)(?P<options>\?.*)?", re.DOTALL)


def sqlite_uri(file: Path) -> str:
    """The URI by which SQLAlchemy 2.1 and MLflow find exactly this file."""
    text = str(file)
    if "%" not in text and "?" not in text:
        return f"{SQLITE}{text}"
    return WITH_DRIVER + text.replace("%", "%25").replace("?", "%3F")


def sqlite_file(uri: str) -> Path | None:
    """The file that an SQLite URI means, as SQLAlchemy reads it; None where it is no such URI or names no file."""
    match = _FILE.fullmatch(uri)
    if match is None or match["path"] in ("", ":memory:"):
        return None
    return Path(unquote(match["path"]))


def _moved_to(uri: str, file: Path) -> str:
    """An SQLite URI with another file and its own options."""
    match = _FILE.fullmatch(uri)
    return sqlite_uri(file) + ((match["options"] or "") if match is not None else "")


def absolute_sqlite(uri: str) -> str:
    """An SQLite URI, its file seen from the working directory, as one that means the same everywhere."""
    file = sqlite_file(uri)
    return uri if file is None else _moved_to(uri, resolved(file))


def default_uri(storage: StoragePath) -> str:
    """The tracking URI of a storage: an SQLite file in it, or in its side folder on this machine."""
    return sqlite_uri(side_folder(storage) / DATABASE)


def kept_uri(uri: str, storage: StoragePath) -> str:
    """A tracking URI as search.json keeps it: an SQLite file in the storage relative to it."""
    file, side = sqlite_file(uri), side_folder(storage)
    return _moved_to(uri, file.relative_to(side)) if file is not None and file.is_relative_to(side) else uri


def uri_of(definition: Mapping[str, Any], storage: StoragePath) -> str:
    """The tracking URI of a search, from its definition and from where its storage is now.

    Version 0.1 kept the file of every storage by its absolute path, unquoted. Where its folder is no more, the storage
    was moved.
    """
    uri = str(definition.get("tracking_uri", ""))
    file = sqlite_file(uri)
    if file is None:
        return uri
    side = side_folder(storage)
    if not file.is_absolute():
        return _moved_to(uri, side / file)
    before = Path(uri.removeprefix(SQLITE)) if uri.startswith(SQLITE) else file
    moved = before.name == DATABASE and not before.parent.is_dir()
    return default_uri(storage) if moved or before == side / DATABASE else uri
