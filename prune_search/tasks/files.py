"""Finds data files in a user's folder and checks their official md5 before anything reads them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path

from prune_search.recipe.problems import Problem, UserError

KEY = "task.data"


def bad_data(message: str) -> UserError:
    """What is wrong with a data set, as the error that the user sees."""
    return UserError([Problem(KEY, message)])


def folders(root: Path, *below: str) -> list[Path]:
    """The folders that are looked in: those `below` the root (nearest to the data set's name first), then the root."""
    return [*(root / name for name in below), root]


def find_files(data_set: str, root: Path | None, names: Sequence[str], *below: str) -> list[Path]:
    """The first folder's files that hold all of `names`.

    Args:
        data_set: the data set's name, for messages.
        root: the folder that the user named, or None.
        names: file names, all of which must lie in one folder.
        below: folders below `root` that are looked in before `root` itself.

    Raises:
        UserError: no folder was named, or none has all files.
    """
    if root is None:
        raise missing(data_set, None, names, below)
    for folder in folders(root, *below):
        found = [folder / name for name in names]
        if all(path.is_file() for path in found):
            return found
    held = {name for folder in folders(root, *below) for name in names if (folder / name).is_file()}
    # Files that lie in different folders are all named: the data set is not whole in any of them.
    raise missing(data_set, root, [name for name in names if name not in held] or names, below)


def missing(data_set: str, root: Path | None, names: Sequence[str], below: Sequence[str]) -> UserError:
    """The error for files that are not there: which they are, and where they go."""
    wanted = ", ".join(names)
    if root is None:
        place = f"<folder>/{below[0]}/" if below else "<folder>/"
        return bad_data(
            f"{data_set} needs {wanted} in {place}, but no folder is given: "
            "set it with --data-root or the environment variable PRUNE_SEARCH_DATA"
        )
    looked = " or ".join(str(folder) for folder in folders(root, *below))
    return bad_data(
        f"{data_set} lacks {wanted}: put the official files into {looked}, "
        "or choose another folder with --data-root or the environment variable PRUNE_SEARCH_DATA"
    )


def read_checked(path: Path, md5: str) -> bytes:
    """The bytes of a file whose md5 is the official one.

    Raises:
        UserError: the file cannot be read, or is not the official one.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise bad_data(f"{path} cannot be read: {error.strerror or error}") from error
    check_md5(str(path), [content], md5)
    return content


def check_md5(name: str, chunks: Iterable[bytes], md5: str) -> None:
    """Refuse content whose md5 is not `md5` (hex); `name` is the file in the message."""
    # The official sums are md5: they tell a cut or altered file, and are no defence against a forger.
    sums = hashlib.md5(usedforsecurity=False)
    for chunk in chunks:
        sums.update(chunk)
    if sums.hexdigest() != md5:
        raise bad_data(
            f"{name} is not the official file (it is truncated, modified, or belongs to another data set): "
            f"md5 expected {md5}, got {sums.hexdigest()}"
        )
