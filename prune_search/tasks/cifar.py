"""Reads CIFAR-10's batches from a folder or archives, checked and without executing any of their content.

A batch is a Python 2 pickle of a mapping with b"data" (uint8 [10000, 3072]) and b"labels" (10,000 integers). A pickle
is a program. It is never run here: its instructions are only listed, and the two values are taken from the list.
"""

from __future__ import annotations

import lzma
import pickletools
import tarfile
import zlib
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch
from torch import Tensor

from prune_search.tasks.files import bad_data, check_md5, folders, missing, read_checked

NAME = "cifar-10"
FOLDER = "cifar-10-batches-py"
# The archive as it is published, and as it is cut into parts, each of which unpacks into the same folder.
ARCHIVES = ("cifar-10-python.tar.gz", "cifar-10.part*.tar.xz")
SIDE, CHANNELS = 32, 3
PICTURE = CHANNELS * SIDE * SIDE
LARGEST = 64 * 2**20  # no batch is half as long: what is longer is not read into memory


def read_batches(root: Path | None, md5s: Mapping[str, str]) -> dict[str, bytes]:
    """The content of the batch files, each checked against its md5.

    Looks into `root`/cifar-10 and then `root`, in each for the unpacked folder, then for its files, then for the
    archives. Archives are read where they lie; nothing is written.

    Args:
        root: the folder that the user named, or None.
        md5s: file name to md5, all of which must be there.

    Raises:
        UserError: a file is missing, damaged, or not the official one.
    """
    if root is None:
        raise missing(NAME, None, [f"{FOLDER}/"], [NAME])
    for folder in folders(root, NAME):
        if (folder / FOLDER).is_dir():
            return _from_folder(folder / FOLDER, root, md5s)
        if any((folder / name).is_file() for name in md5s):
            return _from_folder(folder, root, md5s)
        archives = [path for pattern in ARCHIVES for path in sorted(folder.glob(pattern))]
        if archives:
            return _from_archives(archives, root, md5s)
    raise missing(NAME, root, [f"{FOLDER}/ (or {' or '.join(ARCHIVES)})"], [NAME])


def _from_folder(folder: Path, root: Path, md5s: Mapping[str, str]) -> dict[str, bytes]:
    lacking = [name for name in md5s if not (folder / name).is_file()]
    if lacking:
        below = f"{FOLDER}/" if folder.name == FOLDER and folder != root else ""
        raise missing(NAME, root, [f"{below}{name}" for name in lacking], [NAME])
    return {name: read_checked(folder / name, md5) for name, md5 in md5s.items()}


def _from_archives(archives: Sequence[Path], root: Path, md5s: Mapping[str, str]) -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    with ThreadPoolExecutor() as pool:  # unpacking holds no lock, and takes ten seconds on one core
        for content in pool.map(lambda path: _members(path, md5s), archives):
            found.update(content)
    lacking = [name for name in md5s if name not in found]
    if lacking:
        raise missing(NAME, root, [f"the archive with {FOLDER}/{name}" for name in lacking], [NAME])
    return found


def _members(archive: Path, md5s: Mapping[str, str]) -> dict[str, bytes]:
    """The wanted files of one archive, by name, each checked."""
    found = {}
    try:
        with tarfile.open(archive) as opened:
            for member in opened:
                folder, _, name = member.name.removeprefix("./").rpartition("/")
                if folder != FOLDER or name not in md5s or not member.isfile():
                    continue
                if member.size > LARGEST:
                    raise bad_data(
                        f"{archive}: {member.name} is {member.size} bytes long, which does not match any CIFAR-10 file"
                    )
                stream = opened.extractfile(member)
                content = stream.read() if stream else b""
                check_md5(f"{archive}: {member.name}", [content], md5s[name])
                found[name] = content
    except (tarfile.TarError, lzma.LZMAError, zlib.error, EOFError, OSError) as error:
        raise bad_data(f"{archive} cannot be read: {error}") from error
    return found


def parse_batch(content: bytes, name: str) -> tuple[Tensor, Tensor]:
    """The pictures and labels of one batch file.

    Args:
        content: the file. Its md5 has been checked; even so nothing in it is run.
        name: the file, for messages.

    Returns:
        uint8 [N, 3, 32, 32] and int64 [N].

    Raises:
        UserError: it is no batch of CIFAR-10.
    """
    labels: list[int] = []
    pixels, key = b"", ""
    try:
        for instruction, argument, _ in pickletools.genops(content):
            if instruction.name == "SHORT_BINSTRING":
                key = str(argument)
            elif instruction.name == "BININT1" and key == "labels":
                labels.append(int(argument or 0))
            elif instruction.name == "BINSTRING":
                pixels = str(argument).encode("latin-1")
    except ValueError as error:
        raise bad_data(f"{name} is not a CIFAR-10 batch: {error}") from error
    if not labels or len(pixels) != len(labels) * PICTURE:
        raise bad_data(f"{name} is not a CIFAR-10 batch: {len(labels)} labels, {len(pixels)} bytes of pictures")
    pictures = torch.frombuffer(bytearray(pixels), dtype=torch.uint8).reshape(-1, CHANNELS, SIDE, SIDE)
    return pictures, torch.tensor(labels)


def joined(contents: Mapping[str, bytes], names: Sequence[str]) -> tuple[Tensor, Tensor]:
    """The pictures and labels of several batch files, one after another."""
    parts = [parse_batch(contents[name], name) for name in names]
    return torch.cat([pictures for pictures, _ in parts]), torch.cat([labels for _, labels in parts])
