"""States of a training on disk: a folder of tensors each, with a manifest by which any altered bit is found.

A state is ``step-000001234/`` with ``state.safetensors`` and ``manifest.json``. It becomes current by one rename, so
that it is there whole or not at all, and is read only where every byte is the one that was written.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from prune_search.recipe.problems import shown
from prune_search.training.atomic import StorageError, one_line, open_regular, put_folder, remove_stale
from prune_search.training.tensor_files import (
    decode,
    encode,
    load_tensors,
    no_constant,
    read_tensors_bytes,
    save_tensors,
    unique,
)

__all__ = [
    "State",
    "StorageError",
    "list_states",
    "load_tensors",
    "newest_state",
    "read_state",
    "remove_stale",
    "save_tensors",
    "state_folder",
    "write_state",
]

FORMAT = 1
MOST_MANIFEST_BYTES = 16 * 1024 * 1024
_TENSORS = "state.safetensors"
_MANIFEST = "manifest.json"
_STEP = re.compile(r"step-(?P<step>[0-9]{9}|[1-9][0-9]{9,17})")

_log = logging.getLogger("prune_search")


@dataclass(frozen=True)
class State:
    """What was stored of a training at one step.

    Attributes:
        tensors: name to tensor, on the CPU, in memory of their own.
        meta: plain data beside them.
    """

    tensors: dict[str, Tensor]
    meta: dict[str, Any]


def write_state(folder: Path, tensors: Mapping[str, Tensor], meta: Mapping[str, Any]) -> None:
    """Store a state, whole or not at all. A valid one of that name is kept, a corrupt one replaced.

    Args:
        folder: where it stands afterwards, as from `state_folder`. Its parents are made.
        tensors: dense tensors of any device.
        meta: plain JSON data; its numbers are finite.

    Raises:
        StorageError: it could not be stored (a full disk, no permission); no partial state is left.
        TypeError, ValueError: `meta` is no JSON data or over 16 MiB, or a tensor cannot be stored.
    """
    if os.path.lexists(folder) and _is_valid(folder):
        return
    data = encode(tensors)
    entry = {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}
    content = {"format": FORMAT, "files": {_TENSORS: entry}, "meta": dict(meta)}
    manifest = _rendered({**content, "sha256": _digest(content)})
    _manifest(manifest)  # what could not be read back is not written
    put_folder(folder, {_TENSORS: data, _MANIFEST: manifest}, _is_valid)


def read_state(folder: Path) -> State | None:
    """Read a state.

    Returns:
        The state, or None unless it is complete and every byte is the one that was written. Links are not followed,
        and nothing outside the folder is opened.
    """
    try:
        return _read(folder)
    except (OSError, ValueError):
        return None


def state_folder(parent: Path, step: int) -> Path:
    """Where the state of a step stands below `parent`."""
    return parent / f"step-{step:09d}"


def list_states(folder: Path) -> list[tuple[int, Path]]:
    """The states in a folder by name, valid or not: (step, folder), ascending. Empty where there is no such folder."""
    try:
        names = os.listdir(folder)
    except OSError:
        return []
    steps = sorted(int(match["step"]) for name in names if (match := _STEP.fullmatch(name)))
    return [(step, state_folder(folder, step)) for step in steps]


def newest_state(parent: Path, at_most: int) -> tuple[int, State] | None:
    """The newest valid state at or below a step, with its step; None where there is none.

    A corrupt one is passed over, with a warning of one line in the log.
    """
    for step, folder in reversed(list_states(parent)):
        if step > at_most:
            continue
        try:
            return step, _read(folder)
        except (OSError, ValueError) as error:
            _log.warning("the state %s of %s is not used: %s", folder.name, shown(str(parent), 200), one_line(error))
    return None


def _is_valid(folder: Path) -> bool:
    return read_state(folder) is not None


def _read(folder: Path) -> State:
    """The state, or an OSError or ValueError that says why there is none."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        with open_regular(_MANIFEST, handle) as file:
            content = _manifest(file.read(MOST_MANIFEST_BYTES + 1))
        entry = content["files"][_TENSORS]
        with open_regular(_TENSORS, handle) as file:
            if os.fstat(file.fileno()).st_size != entry["bytes"]:
                raise ValueError(f"{_TENSORS} has not the size that was written")
            data = read_tensors_bytes(file)
    finally:
        os.close(handle)
    # These bytes, and no others, are the ones that are parsed.
    if hashlib.sha256(data).hexdigest() != entry["sha256"]:
        raise ValueError(f"{_TENSORS} was altered")
    return State(decode(data), content["meta"])


def _manifest(data: bytes) -> dict[str, Any]:
    if len(data) > MOST_MANIFEST_BYTES:
        raise ValueError(f"{_MANIFEST} is too large")
    try:
        content = json.loads(data.decode("utf-8"), object_pairs_hook=unique, parse_constant=no_constant)
        # Another way to write the same data is an altered byte too.
        faithful = _rendered(content) == data
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{_MANIFEST} is broken: {one_line(error)}") from error
    if not isinstance(content, dict) or type(content.get("format")) is not int:
        raise ValueError(f"{_MANIFEST} is none of a state")
    if content["format"] != FORMAT:
        raise ValueError(f"its format {shown(content['format'])} is not the one that is read here ({FORMAT})")
    digest = content.pop("sha256", None)
    if not faithful or list(content) != ["format", "files", "meta"] or digest != _digest(content):
        raise ValueError(f"{_MANIFEST} was altered")
    files, meta = content["files"], content["meta"]
    # Only this one name is ever opened, whatever the manifest says.
    entry = files.get(_TENSORS) if isinstance(files, dict) and len(files) == 1 else None
    if not isinstance(entry, dict) or set(entry) != {"sha256", "bytes"} or not isinstance(meta, dict):
        raise ValueError(f"{_MANIFEST} names other files than {_TENSORS}")
    return content


def _rendered(content: Any) -> bytes:
    return json.dumps(content, allow_nan=False).encode("ascii") + b"\n"


def _digest(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(_rendered(content)).hexdigest()
