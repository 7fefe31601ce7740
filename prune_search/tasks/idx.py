"""Reads the idx format of MNIST: a magic number, big-endian sizes, then the bytes.

Source: http://yann.lecun.com/exdb/mnist (LeCun, Cortes, Burges), "File formats for the MNIST database".
"""

from __future__ import annotations

import gzip
import struct
import zlib
from dataclasses import dataclass
from math import prod
from pathlib import Path

import torch
from torch import Tensor

from prune_search.tasks.data import DataSet
from prune_search.tasks.files import bad_data, find_files, read_checked
from prune_search.tasks.pictures import Normalisation, picture_set

UNSIGNED_BYTE = 0x08


def parse_idx(content: bytes, name: str) -> Tensor:
    """The array in an idx file of unsigned bytes.

    Args:
        content: the unpacked file.
        name: the file, for messages.

    Returns:
        uint8, of the shape that the header gives.

    Raises:
        UserError: it is no such file, or longer or shorter than its header says.
    """
    if len(content) < 4 or content[:2] != b"\0\0" or content[2] != UNSIGNED_BYTE or not content[3]:
        raise bad_data(f"{name} is not an idx file of unsigned bytes (it starts with {content[:4].hex() or 'nothing'})")
    body = 4 + 4 * content[3]
    if len(content) < body:
        raise bad_data(f"{name} ends inside its header")
    shape = struct.unpack_from(f">{content[3]}I", content, 4)
    if len(content) - body != prod(shape):
        raise bad_data(f"{name} contains {len(content) - body} bytes, but its header says {prod(shape)} ({shape})")
    if not prod(shape):
        return torch.empty(shape, dtype=torch.uint8)
    # From a bytearray, which can be written to: torch warns of arrays that cannot.
    return torch.frombuffer(bytearray(memoryview(content)[body:]), dtype=torch.uint8).reshape(shape)


def read_idx(path: Path, md5: str) -> Tensor:
    """The array in a packed idx file whose md5 is `md5`.

    Raises:
        UserError: the file is not the official one, or is damaged.
    """
    packed = read_checked(path, md5)
    try:
        content = gzip.decompress(packed)
    except (OSError, EOFError, zlib.error) as error:
        raise bad_data(f"{path} cannot be unpacked: {error}") from error
    return parse_idx(content, str(path))


@dataclass(frozen=True)
class IdxFamily:
    """Where the four files of an idx data set are found, and what they must be.

    Attributes:
        name: the data set; also the folder below the root.
        elsewhere: another folder below the root, where torchvision puts them.
        files: file name to md5: training pictures and labels, test pictures and labels.
        held_out: examples of the validation split.
    """

    name: str
    elsewhere: str
    files: tuple[tuple[str, str], tuple[str, str], tuple[str, str], tuple[str, str]]
    held_out: int


def load_idx(family: IdxFamily, root: Path | None, normalise: Normalisation) -> DataSet:
    """Read the four files of a family into a data set of pictures [N, 1, H, W].

    Raises:
        UserError: a file is missing, not the official one, or does not fit its fellow.
    """
    paths = find_files(family.name, root, [name for name, _ in family.files], family.name, family.elsewhere)
    arrays = [read_idx(path, md5) for path, (_, md5) in zip(paths, family.files, strict=True)]
    for pictures, labels, path in ((arrays[0], arrays[1], paths[0]), (arrays[2], arrays[3], paths[2])):
        if pictures.dim() != 3 or labels.shape != pictures.shape[:1]:
            raise bad_data(
                f"{path} contains an array of shape {tuple(pictures.shape)}, but its labels have shape "
                f"{tuple(labels.shape)}"
            )
    train, test = (arrays[0].unsqueeze(1), arrays[1]), (arrays[2].unsqueeze(1), arrays[3])
    return picture_set(family.name, train, test, family.held_out, normalise)
