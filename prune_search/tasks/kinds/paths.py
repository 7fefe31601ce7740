"""Finds files below the folder of --data-root, and hashes many or large ones without reading all of them."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from prune_search.recipe.problems import Problem, UserError, shown, suggestion

BLOCKS, BLOCK = 1024, 4096
MAX_NAMED = 5


def below_root(root: Path | None, written: str, key: str) -> Path:
    """The file or folder that is written, below the root where it is not absolute.

    Args:
        root: the folder that the user named, or None.
        written: as in the recipe.
        key: where it is written, for messages.

    Raises:
        UserError: it is not there, or relative and no root is named.
    """
    path = Path(written).expanduser()
    if not path.is_absolute():
        if root is None:
            how = "set it with --data-root or the environment variable PRUNE_SEARCH_DATA"
            raise wrong(key, f"{shown(written)} is relative to a folder that is not given: {how}")
        path = root / path
    if not path.exists():
        near = suggestion(path.name, _names(path.parent))
        raise wrong(key, f"there is no {path}{near}")
    return path


# What a library may know by name, as Hugging Face knows ``gpt2`` and ``user/network``.
_ID = re.compile(r"[\w][\w.-]*(/[\w][\w.-]*)?", re.ASCII)


def local(written: str, root: Path | None, key: str) -> Path | None:
    """A file or folder of somebody who may also have written a name that a library knows.

    Args:
        written: as in the recipe: absolute, below the root, or in the working directory.
        root: the folder that the user named, or None.
        key: where it is written, for messages.

    Returns:
        Where it lies; None where it is nowhere and may be a name.

    Raises:
        UserError: it is nowhere, and no such name.
    """
    path = Path(written).expanduser()
    places = [path] if path.is_absolute() or root is None else [root / path, path]
    found = next((place for place in places if place.exists()), None)
    if found is None and not _ID.fullmatch(written):
        raise wrong(key, f"there is no {' and no '.join(map(str, places))}")
    return None if found is None else found.absolute()


def looked_up(written: str, root: Path | None) -> str:
    """The beginning of a message about what is no folder, and by its name cannot be had either."""
    near = suggestion(written, _names(root or Path.cwd()))
    return f"there is no such folder{near}, and by that name "


def _names(folder: Path) -> list[str]:
    try:
        return sorted(entry.name for entry in os.scandir(folder))[:10_000]
    except OSError:
        return []


def wrong(key: str, *messages: str) -> UserError:
    """What is wrong with an option, as the error that the user sees."""
    return UserError(Problem(key, message) for message in messages)


def few(names: Iterable[object], limit: int = MAX_NAMED) -> str:
    """The first names of many, with commas."""
    known = [str(name) for name in names]
    return ", ".join(known[:limit]) + (f" and {len(known) - limit} more" if len(known) > limit else "")


def files_digest(files: Sequence[tuple[str, Path]], settings: object = "") -> str:
    """The sha256 (hex) of files by relative names, sizes and a sample of bytes, and of what is made of them.

    All bytes count where they are at most 4 MiB. Of more, 1,024 blocks of 4 KiB are read at even distances, all
    files laid end to end, so that a terabyte takes seconds.

    Args:
        files: the relative name and the path of each, in the order in which they are to be hashed.
        settings: whatever else the data depend on, with a repr that is the same everywhere.

    Raises:
        UserError: one cannot be read.
    """
    sha = hashlib.sha256(f"{settings!r}\n".encode())
    sizes = []
    for name, path in files:
        try:
            sizes.append(path.stat().st_size)
        except OSError as error:
            raise unreadable(path, error) from error
        sha.update(f"{name!r} {sizes[-1]}\n".encode("utf-8", "surrogatepass"))
    total = sum(sizes)
    count = min(BLOCKS, -(-total // BLOCK))
    begins = [
        index * (total - BLOCK) // max(1, count - 1) if total > BLOCKS * BLOCK else index * BLOCK
        for index in range(count)
    ]
    file, before = 0, 0
    for begin in begins:
        while begin >= before + sizes[file]:
            before += sizes[file]
            file += 1
        _hash_block(sha, files, sizes, file, begin - before)
    return sha.hexdigest()


def _hash_block(
    sha: hashlib._Hash, files: Sequence[tuple[str, Path]], sizes: Sequence[int], file: int, offset: int
) -> None:
    """Hash a block that begins at an offset of a file and may go on in the next ones."""
    left = BLOCK
    while left > 0 and file < len(files):
        take = min(left, sizes[file] - offset)
        if take > 0:
            path = files[file][1]
            try:
                with path.open("rb") as opened:
                    opened.seek(offset)
                    sha.update(opened.read(take))
            except OSError as error:
                raise unreadable(path, error) from error
        left, file, offset = left - take, file + 1, 0


def unreadable(path: Path, error: OSError, key: str = "task.data") -> UserError:
    """The error for a file that cannot be read."""
    return wrong(key, f"{path} cannot be read: {error.strerror or error}")
