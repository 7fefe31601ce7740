"""The files of a storage on a file system (see `files.Store`).

Files and folders are there whole or not at all: written beside their place, synced, then renamed into it.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import secrets
import shutil
import stat
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from prune_search.recipe.problems import Problem, UserError, shown
from prune_search.storage.content import Content
from prune_search.storage.errors import StorageError, one_line

# Longer than a write takes.
SETTLE_S = 0.2
IS_SERVICE = False

_TEMPORARY = re.compile(r"\.tmp-(?P<pid>[1-9][0-9]{0,8})-[0-9a-f]{16}")
_TAKEN = (errno.EEXIST, errno.ENOTEMPTY, errno.ENOTDIR)
_NO_LINKS = (errno.EPERM, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK, errno.EXDEV)
_ATTEMPTS = 5


# Every call that changes the disk is one of these five, so that a test can make any of them fail.
def _make_folder(path: Path) -> None:
    path.mkdir(parents=True)


def _write_bytes(path: Path, data: Content, lasting: bool = True) -> None:
    with open(path, "xb") as file:
        for part in (data,) if isinstance(data, bytes) else data:
            file.write(part)
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


def prepare_storage(storage: Path) -> Path:
    """Make the folder."""
    try:
        storage.mkdir(parents=True, exist_ok=True)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise UserError([Problem("--storage", f"{shown(str(storage))} cannot be a folder: {reason}")]) from None
    return storage.absolute()


def check_writable(storage: Path) -> None:
    """As the system sees it for the storage and for the folders in it."""
    try:
        folders = [storage, *(path for path in storage.iterdir() if path.is_dir())]
    except OSError as error:
        raise UserError([Problem("--storage", f"{shown(str(storage))} cannot be read: {one_line(error)}")]) from None
    barred = [path for path in folders if not os.access(path, os.W_OK | os.X_OK)]
    if barred:
        text = f"you may not write to {', '.join(shown(str(path)) for path in barred[:3])}; choose another storage, or"
        raise UserError([Problem("--storage", f"{text} have its owner allow it (chmod g+w for your group)")])


def make_folder(folder: Path) -> None:
    """With its parents."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(f"the folder {folder} cannot be created: {one_line(error)}") from error


def side_folder(storage: Path) -> Path:
    """The storage itself."""
    return storage.absolute()


def put_folder(folder: Path, files: Mapping[str, Content], valid: Callable[[Path], bool]) -> None:
    """A folder beside its place, then renamed into it; the first valid one stays."""
    temporary = _temporary_in(folder.parent)
    with _storing(temporary, folder):
        _make_folder(temporary)
        for name, data in files.items():
            _write_bytes(temporary / name, data)
        _fsync(temporary)
        _move_into_place(temporary, folder, valid)
        _fsync(folder.parent)


def put_file(path: Path, data: bytes, *, lasting: bool = True) -> None:
    """A file beside its place, then renamed into it."""
    temporary = _temporary_in(path.parent)
    with _storing(temporary, path):
        _write_bytes(temporary, data, lasting)
        _rename(temporary, path)
        if lasting:
            _fsync(path.parent)


def create_if_absent(path: Path, data: bytes) -> bool:
    """By a link, which never replaces what stands there."""
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


def creates_exclusively(folder: Path) -> bool:
    """Whether a second creation of one file is refused."""
    create_if_absent(folder / "once", b"1")
    return not create_if_absent(folder / "once", b"2")


def remove_tree(folder: Path, first: str = "") -> None:
    """Renamed first, so that nobody finds it half removed."""
    aside = _temporary_in(folder.parent)
    try:
        _rename(folder, aside)
        if first and aside.is_dir() and not aside.is_symlink():
            with contextlib.suppress(FileNotFoundError):
                _remove(aside / first)
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
def open_regular(path: Path | str, folder: int | None = None) -> Iterator[BinaryIO]:
    """A regular file by its path, or by its name in the open folder of a handle."""
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


@dataclass(frozen=True)
class LocalFolder:
    """A folder that is read (see `files.open_folder`): the same one, whatever takes its place in the meantime.

    Attributes:
        handle: of the open folder.
    """

    handle: int

    def open(self, name: str, at_most: int, sha256: str = "") -> AbstractContextManager[BinaryIO]:
        """One of its files; nothing of it is read yet, so that its size needs no limit here."""
        return open_regular(name, self.handle)


@contextlib.contextmanager
def open_folder(folder: Path) -> Iterator[LocalFolder]:
    """A folder that is no link."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        yield LocalFolder(handle)
    finally:
        os.close(handle)


def walk_files(folder: Path) -> Iterator[tuple[str, int, float]]:
    """Name, size and time of every regular file below a folder."""
    below = [""]
    while below:
        prefix = below.pop()
        # What is found can be removed, or moved into its place, at any moment.
        with contextlib.suppress(OSError), os.scandir(folder / prefix) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    below.append(f"{prefix}{entry.name}/")
                elif entry.is_file(follow_symlinks=False):
                    status = entry.stat(follow_symlinks=False)
                    yield f"{prefix}{entry.name}", status.st_size, status.st_mtime


def remove_stale(storage: Path, folders: Sequence[str], older_than_s: float) -> int:
    """What has the name of a temporary file of a process that is no more."""
    removed = 0
    for pattern in folders:
        with contextlib.suppress(OSError):
            found = [path for path in storage.glob(pattern) if path.is_dir() and not path.is_symlink()]
            removed += sum(_remove_stale_in(path, older_than_s) for path in found)
    return removed


def _remove_stale_in(parent: Path, older_than_s: float) -> int:
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
