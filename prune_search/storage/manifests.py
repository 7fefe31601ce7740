"""The manifest of a stored state, which reveals any modified bit, and the names of states. No torch."""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
from collections.abc import Mapping
from typing import Any

from prune_search.recipe.problems import shown
from prune_search.storage.errors import StorageError, one_line
from prune_search.storage.files import open_regular, put_file, remove_tree
from prune_search.storage.places import SomePlace, StoragePath, below, names_in

FORMAT = 1
# Of states that hold masks: one bit a place, where format 1 has a byte.
PACKED_FORMAT = 2
MAX_BYTES = 16 * 1024 * 1024
TENSORS = "state.safetensors"
MANIFEST = "manifest.json"
EARLY_END = "early-end.json"
MAX_RESTS = 64
ADDRESS = re.compile(r"[0-9a-f]{64}")
_STEP = re.compile(r"step-(?P<step>[0-9]{9}|[1-9][0-9]{9,17})")

# A state: the address of its segment, and the step.
Key = tuple[str, int]


def step_of(name: str) -> int | None:
    """The step that the folder of a state has by its name; None for any other name."""
    match = _STEP.fullmatch(name)
    return int(match["step"]) if match else None


def state_folder(parent: SomePlace, step: int) -> SomePlace:
    """Where the state of a step stands below `parent`."""
    return below(parent, f"step-{step:09d}")


def list_states(folder: SomePlace) -> list[tuple[int, SomePlace]]:
    """The states in a folder by name, valid or not: (step, folder), ascending. Empty where there is no such folder.

    Raises:
        StorageError: the object store is away.
    """
    try:
        names = names_in(folder)
    except OSError:
        return []
    steps = sorted(step for name in names if (step := step_of(name)) is not None)
    return [(step, state_folder(folder, step)) for step in steps]


def note_early_end(vertex: StoragePath, step: int) -> None:
    """Note that a segment ends early, which stays known where its states are removed. Where it cannot be noted, not."""
    with contextlib.suppress(StorageError, OSError):
        put_file(vertex / EARLY_END, rendered({"step": step}), lasting=False)


def read_early_end(vertex: StoragePath, total: int) -> int | None:
    """The step before `total` at which a segment ends, where that was noted."""
    try:
        with open_regular(vertex / EARLY_END) as file:
            step = json.loads(file.read(MAX_BYTES))["step"]
    except (OSError, ValueError, TypeError, KeyError, RecursionError, StorageError):
        return None
    return step if type(step) is int and 0 < step < total else None


def remove_state(folder: StoragePath) -> None:
    """Remove a state, as if it had never been there; whoever needs it trains it again.

    Raises:
        StorageError: it could not be removed.
    """
    remove_tree(folder, MANIFEST)


def rests_on(meta: Mapping[str, Any]) -> set[Key]:
    """What a state's segment begins from, as its manifest says; nothing where it says nothing that could be so."""
    written = meta.get("rests_on")
    if not isinstance(written, list) or len(written) > MAX_RESTS:
        return set()
    places = [place for place in written if isinstance(place, list) and len(place) == 2]
    return {
        (address, step)
        for address, step in places
        if isinstance(address, str) and ADDRESS.fullmatch(address) and type(step) is int and step >= 0
    }


def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object whose keys must differ (for `json.loads`)."""
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("duplicate key")
    return found


def no_constant(name: str) -> Any:
    """Refuse NaN and Infinity, which are no JSON (for `json.loads`)."""
    raise ValueError(f"{name} is not valid JSON")


def read_manifest(data: bytes) -> dict[str, Any]:
    """The content of a manifest's bytes: ``format``, ``files``, with the one entry of the tensors, and ``meta``.

    Raises:
        ValueError: a byte was modified, or it is of another format.
    """
    if len(data) > MAX_BYTES:
        raise ValueError(f"{MANIFEST} is too large")
    try:
        content = json.loads(data.decode("utf-8"), object_pairs_hook=unique, parse_constant=no_constant)
        # Another way to write the same data is an altered byte too.
        faithful = rendered(content) == data
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{MANIFEST} is broken: {one_line(error)}") from error
    if not isinstance(content, dict) or type(content.get("format")) is not int:
        raise ValueError(f"{MANIFEST} does not describe a state")
    if content["format"] not in (FORMAT, PACKED_FORMAT):
        known = f"formats {FORMAT} and {PACKED_FORMAT}"
        raise ValueError(f"its format is {shown(content['format'])}; this version reads {known}")
    digest = content.pop("sha256", None)
    if not faithful or list(content) != ["format", "files", "meta"] or digest != digest_of(content):
        raise ValueError(f"{MANIFEST} was modified")
    files, meta = content["files"], content["meta"]
    # Only this one name is ever opened, whatever the manifest says.
    entry = files.get(TENSORS) if isinstance(files, dict) and len(files) == 1 else None
    if not isinstance(entry, dict) or set(entry) != {"sha256", "bytes"} or not isinstance(meta, dict):
        raise ValueError(f"{MANIFEST} names other files than {TENSORS}")
    return content


def rendered(content: Any) -> bytes:
    """The one way in which a manifest is written."""
    return json.dumps(content, allow_nan=False).encode("ascii") + b"\n"


def digest_of(content: Mapping[str, Any]) -> str:
    """sha256 of a manifest without its own digest."""
    return hashlib.sha256(rendered(content)).hexdigest()
