"""Writes files and folders atomically: next to their target, synced, then renamed into place."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import re
import secrets
import shutil
import stat
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import BinaryIO

from prune_search.storage.errors import StorageError, one_line
from prune_search.storage.object_paths import ObjectPath
from prune_search.storage.places import StoragePath

__all__ = [
    "StorageError",
    "create_if_absent",
    "one_line",
    "open_regular",
    "put_file",
    "put_folder",
    "remove_stale",
    "remove_tree",
]

_TEMPORARY = re.compile(r"\.tmp-(?P<pid>[1-9][0-9]{0,8})-[0-9a-f]{16}")
_TAKEN = (errno.EEXIST, errno.ENOTEMPTY, errno.ENOTDIR)
_NO_LINKS = (errno.EPERM, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK, errno.EXDEV)
_ATTEMPTS = 5


# Every call that changes the disk is one of these five, so that a test can make any of them fail.
def _make_folder(path: Path) -> None:
    path.mkdir(parents=True)


def _write_bytes(path: Path, data: bytes, lasting: bool = True) -> None:
    with open(path, "xb") as file:
        file.write(data)
        if lasting:
            file.flush()
            os.fsync(file.fileno())


def _fsync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _rename(source: Path, target: Path) -> None:
    os.rename(source, target)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()


def put_folder(folder: Path, files: Mapping[str, bytes], valid: Callable[[Path], bool]) -> None:
    """Store a folder of files under its name, whole or not at all.

    The first valid one stays: where `folder` exists and is valid it is kept, where it is corrupt it is replaced.

    Args:
        folder: where it stands afterwards. Its parents are made.
        files: name to content.
        valid: whether a folder is complete and unaltered.

    Raises:
        StorageError: it could not be stored; what stood there before still does, and nothing partial is left.
    """
    temporary = _temporary_in(folder.parent)
    with _storing(temporary, folder):
        _make_folder(temporary)
        for name, data in files.items():
            _write_bytes(temporary / name, data)
        _fsync(temporary)
        _move_into_place(temporary, folder, valid)
        _fsync(folder.parent)


def put_file(path: StoragePath, data: bytes, *, lasting: bool = True) -> None:
    """Store a file under its name, whole or not at all; one that stood there is replaced.

    Args:
        path: where it stands afterwards. Its folder must exist, where it is no object store.
        data: its content.
        lasting: whether it is to outlast a power failure too, which costs milliseconds. Without, one of the last half
            minute can then be lost, or cut.

    Raises:
        StorageError: it could not be stored; what stood there before still does, and nothing partial is left.
    """
    if isinstance(path, ObjectPath):
        path.write_bytes(data)
        return
    temporary = _temporary_in(path.parent)
    with _storing(temporary, path):
        _write_bytes(temporary, data, lasting)
        _rename(temporary, path)
        if lasting:
            _fsync(path.parent)


def create_if_absent(path: StoragePath, data: bytes) -> bool:
    """Store a file under its name, whole, unless something stands there; of several at once exactly one succeeds.

    An object store without conditional writes is found out, and said once: there two can succeed.

    Args:
        path: where it stands afterwards. Its folder must exist, where it is no object store.
        data: its content, which nobody else writes: a token, say.

    Returns:
        Whether this call made it.

    Raises:
        StorageError: it could not be stored.
    """
    if isinstance(path, ObjectPath):
        return path.create(data)
    temporary = _temporary_in(path.parent)
    with _storing(temporary, path):
        _write_bytes(temporary, data)
        try:
            # Unlike a rename, a link never replaces; unlike an exclusive opening, what it makes is whole.
            os.link(temporary, path, follow_symlinks=False)
        except FileExistsError:
            return False
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
            # A file system without links: for a moment the file is there and empty.
            try:
                _write_bytes(path, data)
            except FileExistsError:
                return False
        _fsync(path.parent)
    return True


def remove_tree(folder: StoragePath, first: str = "") -> None:
    """Remove a folder. It is gone at once: nobody finds it half removed.

    Args:
        folder: it need not exist. A link is removed, and not followed.
        first: in an object store, the name of the file without which the others count for nothing.

    Raises:
        StorageError: it could not be removed.
    """
    if isinstance(folder, ObjectPath):
        folder.remove_tree(first)
        return
    aside = _temporary_in(folder.parent)
    try:
        _rename(folder, aside)
        _remove(aside)
    except FileNotFoundError:
        return
    except OSError as error:
        raise StorageError(f"{folder.name} cannot be removed: {one_line(error)}") from error


def _temporary_in(parent: Path) -> Path:
    return parent / f".tmp-{os.getpid()}-{secrets.token_hex(8)}"


@contextlib.contextmanager
def _storing(temporary: Path, target: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StorageError(f"{target.name} cannot be stored: {one_line(error)}") from error
    finally:
        _discard(temporary)


def _discard(path: Path) -> bool:
    """Remove what is there. What cannot be removed now has a name that nobody reads, and `remove_stale` finds it."""
    with contextlib.suppress(OSError):
        if os.path.lexists(path):
            _remove(path)
            return True
    return False


def _move_into_place(temporary: Path, folder: Path, valid: Callable[[Path], bool]) -> None:
    for _ in range(_ATTEMPTS):
        try:
            _rename(temporary, folder)
            return
        except OSError as error:
            if error.errno not in _TAKEN:
                raise
        if valid(folder):
            return
        aside = _temporary_in(folder.parent)
        with contextlib.suppress(FileNotFoundError):  # another process was faster
            _rename(folder, aside)
        if valid(aside):  # another process has just put it there: it was first, so it goes back in place of ours
            _remove(temporary)
            _rename(aside, temporary)
        _discard(aside)
    raise OSError(errno.EBUSY, "others keep writing to the same place")


@contextlib.contextmanager
def open_regular(path: StoragePath | str, folder: int | None = None) -> Iterator[BinaryIO]:
    """Open a regular file to be read. A link is not followed; a pipe or a device is not opened.

    Args:
        path: the file or object, or its name in `folder`.
        folder: the handle of an open folder.

    Raises:
        OSError: it is not there, no regular file, or may not be read.
        ValueError: no file can have that name, or an object is over 1 GiB.
        StorageError: an object store is away.
    """
    if isinstance(path, ObjectPath):
        yield io.BytesIO(path.read_bytes())
        return
    mode = os.stat(path, dir_fd=folder, follow_symlinks=False).st_mode
    if stat.S_ISLNK(mode):
        raise OSError(errno.ELOOP, "is a symbolic link, which is not followed")
    if not stat.S_ISREG(mode):
        raise OSError(errno.EINVAL, "is not a regular file")
    # It can have become something else since; then opening it neither follows nor waits.
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    with open(os.open(path, flags, dir_fd=folder), "rb") as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise OSError(errno.EINVAL, "is not a regular file")
        yield file


def remove_stale(parent: StoragePath, older_than_s: float) -> int:
    """Remove what dead processes left half-written in a folder.

    Args:
        parent: the folder. It need not exist. (In an object store nothing is ever half-written.)
        older_than_s: seconds since something in it last changed. Where several machines share the storage, a process
            of another machine looks dead from here, so that this must be longer than any write takes.

    Returns:
        How many were removed.
    """
    if isinstance(parent, ObjectPath):
        return 0
    try:
        names = os.listdir(parent)
    except OSError:
        return 0
    removed = 0
    for name in names:
        match = _TEMPORARY.fullmatch(name)
        if match and not _is_alive(int(match["pid"])) and time.time() - _changed(parent / name) > older_than_s:
            removed += _discard(parent / name)
    return removed


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:  # it is another user's
        return True
    return True


def _changed(path: Path) -> float:
    """When a folder or a file in it last changed, in seconds since 1970; now where that cannot be seen."""
    try:
        inside = [path / name for name in os.listdir(path)] if path.is_dir() and not path.is_symlink() else []
        return max(part.lstat().st_mtime for part in [path, *inside])
    except OSError:
        return time.time()
