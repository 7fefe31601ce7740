"""Checks MLflow's SQLite file before MLflow opens it: permissions, whether it is usable, and moved artifact paths.

MLflow tries a file that it cannot use for two minutes, and lets no other delivery of the process in meanwhile.
"""

from __future__ import annotations

import contextlib
import glob
import os
import secrets
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit

from prune_search.ledger.tracking_uri import DATABASE, sqlite_uri
from prune_search.storage.files import remove_stale

ARTIFACTS = "mlartifacts"
WAIT_S, LEFTOVER_S = 5.0, 3600.0
# Where MLflow 3 keeps the places of files; every one begins with that of its experiment.
_PLACES = (
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("logged_models", "artifact_location"),
    ("model_versions", "source"),
    ("model_versions", "storage_location"),
)


def check_database(file: Path) -> None:
    """Find out whether MLflow could use a file. Nothing is made or changed, and what is not there is fine.

    Raises:
        OSError: there is no folder for it, or it may not be written to.
        sqlite3.Error: it is no SQLite file.
    """
    if not file.exists():
        return
    for path in (file, file.parent):
        if not os.access(path, os.W_OK):
            raise PermissionError(f"you may not write to {path}; its owner can allow it with chmod g+w")
    with _opened(file) as connection:
        connection.execute("PRAGMA schema_version").fetchone()


def prepare_database(file: Path, fill: Callable[[str], None]) -> None:
    """Make the database where there is none, whole or not at all; tell it where its storage is now.

    MLflow makes its tables one by one. A search that ends meanwhile would leave some, which MLflow never completes. And
    SQLite makes files that nobody but their owner can write to; this one gets the mode of the umask.

    Args:
        file: the database.
        fill: makes MLflow's tables in the empty SQLite file at a URI.

    Raises:
        OSError: it cannot be made.
        sqlite3.Error: it cannot be read.
    """
    if not file.exists():
        _create(file, fill)
    if file.name == DATABASE:
        follow(file, file.parent.absolute() / ARTIFACTS)


def _create(file: Path, fill: Callable[[str], None]) -> None:
    folder = file.parent
    folder.mkdir(parents=True, exist_ok=True)
    # What a process that was killed has left.
    remove_stale(folder.parent, [glob.escape(folder.name)], LEFTOVER_S)
    aside = folder / f".tmp-{os.getpid()}-{secrets.token_hex(8)}"
    os.close(os.open(aside, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666))
    try:
        fill(sqlite_uri(aside))
        try:
            # It replaces nothing: another process can have been faster.
            os.link(aside, file)
        except FileExistsError:
            return
        except OSError:
            # Not every file system has links.
            if not file.exists():
                os.rename(aside, file)
    finally:
        for path in (aside, aside.with_name(f"{aside.name}-journal")):
            path.unlink(missing_ok=True)


def follow(file: Path, root: Path) -> None:
    """Correct the places of files in MLflow's database, after its storage was moved or copied.

    MLflow keeps them absolute, so that it would look for them where the storage was, and make that folder again.

    Args:
        file: the database.
        root: where the storage's files lie now.

    Raises:
        sqlite3.Error: the database cannot be read or written.
    """
    with _opened(file) as connection:
        tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        if not {"experiments", "runs"} <= tables:
            return
        places = [text for (text,) in connection.execute("SELECT DISTINCT artifact_location FROM experiments") if text]
        for old in sorted({before for text in places if (before := _root_of(text)) is not None}):
            if old == root.as_uri() or not _is_here_now(connection, old, root):
                continue
            for table, column in _PLACES:
                if table in tables:
                    _replace(connection, table, column, old, root.as_uri())
        connection.commit()


def _root_of(place: str) -> str | None:
    """What lies up to ``mlartifacts`` in the place of an experiment's files; None where that is not in it."""
    before, name, rest = place.rpartition(f"/{ARTIFACTS}")
    return before + name if name and place.startswith("file:") and (not rest or rest.startswith("/")) else None


def _is_here_now(connection: sqlite3.Connection, old: str, root: Path) -> bool:
    """Whether the files of a root are in another one now: the old one is gone, or a run's files are in the new one."""
    if not Path(unquote(urlsplit(old).path)).is_dir():
        return True
    found = connection.execute(
        "SELECT artifact_uri FROM runs WHERE substr(artifact_uri, 1, ?) = ? LIMIT 100", (len(old) + 1, f"{old}/")
    )
    names = (place.removeprefix(f"{old}/").partition("/")[0] for (place,) in found)
    return any((root / unquote(name)).is_dir() for name in names)


def _replace(connection: sqlite3.Connection, table: str, column: str, old: str, new: str) -> None:
    statement = (
        f"UPDATE {table} SET {column} = ? || substr({column}, ?) WHERE {column} = ? OR substr({column}, 1, ?) = ?"  # noqa: S608 - names of ours
    )
    connection.execute(statement, (new, len(old) + 1, old, len(old) + 1, f"{old}/"))


@contextlib.contextmanager
def _opened(file: Path) -> Iterator[sqlite3.Connection]:
    """The database, which is not made where it is not there."""
    connection = sqlite3.connect(f"file:{quote(str(file))}?mode=rw", timeout=WAIT_S, uri=True)
    try:
        yield connection
    finally:
        connection.close()
