"""Training states in a storage: a folder of tensors each, with a manifest that reveals any modified bit.

A state is ``step-000001234/`` with ``state.safetensors`` and ``manifest.json``. On a file system it becomes current by
one rename, in an object store by its manifest, which is written last: so it is there whole or not at all, and it is
read only where every byte is the one that was written.
"""

from __future__ import annotations

import hashlib
import logging
import mmap
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO

from torch import Tensor

from prune_search.recipe.problems import shown
from prune_search.storage.cache import CACHE
from prune_search.storage.files import Content, StorageError, one_line, open_folder, put_folder
from prune_search.storage.manifests import (
    FORMAT,
    MANIFEST,
    MAX_BYTES,
    PACKED_FORMAT,
    TENSORS,
    digest_of,
    list_states,
    read_manifest,
    remove_state,
    rendered,
    state_folder,
)
from prune_search.storage.packed_masks import has_masks, packed, unpacked
from prune_search.storage.places import StoragePath
from prune_search.storage.tensors import (
    decode,
    decode_mapped,
    encoded_parts,
    load_tensors,
    read_tensors_bytes,
    save_tensors,
)

__all__ = [
    "State",
    "StorageError",
    "is_valid",
    "list_states",
    "load_tensors",
    "newest_state",
    "put_state",
    "read_state",
    "remove_state",
    "save_tensors",
    "state_folder",
    "write_state",
]

# Bytes from which a state is mapped when it is read, and written without another copy.
LARGE = 64 * 2**20
_SHA256 = re.compile("[0-9a-f]{64}")

_log = logging.getLogger("prune_search")


@dataclass(frozen=True)
class State:
    """What was stored of a training at one step.

    Attributes:
        tensors: name to tensor, on the CPU, in memory of their own; of a large state, in a private map of its file.
        meta: plain data beside them.
    """

    tensors: dict[str, Tensor]
    meta: dict[str, Any]


def write_state(folder: StoragePath, tensors: Mapping[str, Tensor], meta: Mapping[str, Any]) -> None:
    """Store a state, whole or not at all. A valid one of that name is kept, a corrupt one replaced.

    Args:
        folder: where it stands afterwards, as from `state_folder`. Its parents are made.
        tensors: dense tensors of any shape [...] and device.
        meta: plain JSON data; its numbers are finite.

    Raises:
        StorageError: it could not be stored (a full disk, no permission); no partial state is left.
        TypeError, ValueError: `meta` is no JSON data or over 16 MiB, or a tensor cannot be stored.
    """
    if is_valid(folder):
        return
    bits = has_masks(tensors)
    parts = encoded_parts(packed(tensors) if bits else tensors)
    sha256 = _digest(parts)
    put_state(folder, parts, sha256, bits, meta)
    CACHE.put(sha256, tensors)


def put_state(
    folder: StoragePath, parts: Sequence[bytes | memoryview], sha256: str, bits: bool, meta: Mapping[str, Any]
) -> None:
    """Store a state whose file is known byte for byte; see `write_state`.

    Args:
        folder: where it stands afterwards.
        parts: of the safetensors file, one after the other.
        sha256: of them, in hex.
        bits: whether its masks are bits (`packed_masks`).
        meta: plain JSON data.
    """
    size = sum(map(len, parts))
    entry = {"sha256": sha256, "bytes": size}
    content = {"format": PACKED_FORMAT if bits else FORMAT, "files": {TENSORS: entry}, "meta": dict(meta)}
    manifest = rendered({**content, "sha256": digest_of(content)})
    read_manifest(manifest)  # what could not be read back is not written
    # Of a large one no second copy is made.
    files: dict[str, Content] = {TENSORS: parts if size >= LARGE else b"".join(parts), MANIFEST: manifest}
    put_folder(folder, files, is_valid)


def read_state(folder: StoragePath) -> State | None:
    """Read a state.

    Returns:
        The state, or None unless it is complete and every byte is the one that was written. Links are not followed,
        and nothing outside the folder is opened.
    """
    try:
        return _read(folder)
    except (OSError, ValueError):
        return None
    except StorageError as error:
        _log.warning("ignoring the stored state %s: %s", folder.name, error)
        return None


def newest_state(parent: StoragePath, at_most: int) -> tuple[int, State] | None:
    """The newest valid state at or below a step, with its step; None where there is none.

    A corrupt one is passed over, with a warning of one line in the log.
    """
    try:
        states = list_states(parent)
    except StorageError as error:
        _log.warning("ignoring the stored states of %s: %s", shown(str(parent), 200), error)
        return None
    for step, folder in reversed(states):
        if step > at_most:
            continue
        try:
            return step, _read(folder)
        except (OSError, ValueError) as error:
            _log.warning(
                "ignoring the stored state %s of %s: %s", folder.name, shown(str(parent), 200), one_line(error)
            )
        except StorageError as error:
            _log.warning("ignoring the stored states of %s: %s", shown(str(parent), 200), error)
            break
    return None


def is_valid(folder: StoragePath) -> bool:
    """Whether a state is there of which every byte is the one that was written."""
    try:
        _read(folder, afresh=True)
    except (OSError, ValueError, StorageError):
        return False
    return True


def _read(folder: StoragePath, afresh: bool = False) -> State:
    """The state, or an OSError, ValueError or StorageError that says why there is none.

    Args:
        folder: of the state.
        afresh: whether the file is read even where this process knows what it should contain.
    """
    with open_folder(folder) as opened:
        with opened.open(MANIFEST, MAX_BYTES) as file:
            content = read_manifest(file.read(MAX_BYTES + 1))
        size, sha256 = _written(content)
        if not afresh and (tensors := CACHE.get(sha256)) is not None:
            return State(tensors, content["meta"])
        with opened.open(TENSORS, size, sha256) as file:
            if file.seek(0, os.SEEK_END) != size:
                raise ValueError(f"{TENSORS} does not have the size that was written")
            mapped = _mapped(file) if size >= LARGE else None
            data = read_tensors_bytes(file) if mapped is None else mapped
    return _checked(data, content)


def _mapped(file: BinaryIO) -> mmap.mmap | None:
    """A file of this machine's, mapped: what is written to the memory stays in it. None where there is no file."""
    try:
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
    except (OSError, ValueError):
        return None


def _digest(parts: Iterable[bytes | memoryview]) -> str:
    sha = hashlib.sha256()
    for part in parts:
        sha.update(part)
    return sha.hexdigest()


def _written(content: Mapping[str, Any]) -> tuple[int, str]:
    """The size and the sha256 that a manifest gives of the tensors."""
    size, sha256 = content["files"][TENSORS]["bytes"], content["files"][TENSORS]["sha256"]
    if type(size) is not int or not isinstance(sha256, str) or not _SHA256.fullmatch(sha256):
        raise ValueError(f"{MANIFEST} was modified")
    return size, sha256


def _checked(data: bytes | mmap.mmap, content: Mapping[str, Any]) -> State:
    # These bytes, and no others, are the ones that are parsed.
    sha256 = hashlib.sha256(data).hexdigest()
    if sha256 != content["files"][TENSORS]["sha256"]:
        raise ValueError(f"{TENSORS} was modified")
    tensors = decode_mapped(data) if isinstance(data, mmap.mmap) else decode(data)
    if content["format"] == PACKED_FORMAT:
        tensors = unpacked(tensors)
    CACHE.put(sha256, tensors)
    return State(tensors, content["meta"])
