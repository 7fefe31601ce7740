"""Takes the inventory of a storage: every state with its size, retraining cost and whether it is in use. No torch.

A state is rebuilt from the nearest kept one before it on its segment; where there is none, from the beginning of the
segment, for which what the segment rests on must be there or be rebuilt as well.
"""

from __future__ import annotations

import contextlib
import os
import statistics
import time
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from prune_search.recipe.problems import UserError
from prune_search.storage.files import open_regular
from prune_search.storage.json_files import LEASE_FILE, read_json
from prune_search.storage.manifests import ADDRESS, MANIFEST, MAX_BYTES, Key, read_manifest, rests_on, step_of
from prune_search.storage.names import VERTICES, vertex_folder
from prune_search.storage.object_paths import ObjectPath
from prune_search.storage.places import StoragePath

# A state that was stored a moment ago is about to be asked for.
YOUNG_S = 300.0
LEASE_STALE_S = 60.0
GUESSED_S = 0.01


@dataclass(frozen=True)
class StoredState:
    """A state in a storage.

    Attributes:
        folder: where it lies.
        address: of its segment.
        step: of the segment, in iterations.
        size: bytes.
        changed: seconds since the epoch, when it was stored.
        valid: whether its manifest is unaltered; the tensors are not read.
        seconds_per_step: measured when it was trained; None where that is not known.
        rests_on: states that its segment begins from.
        name: of the segment, for people.
    """

    folder: StoragePath
    address: str
    step: int
    size: int
    changed: float
    valid: bool
    seconds_per_step: float | None = None
    rests_on: frozenset[Key] = frozenset()
    name: str = ""

    @property
    def key(self) -> Key:
        return self.address, self.step


@dataclass
class Inventory:
    """The states of a storage.

    Attributes:
        states: by (address, step).
        leased: addresses of segments that a living worker holds.
        now: seconds since the epoch, when it was taken.
    """

    states: dict[Key, StoredState]
    leased: frozenset[str]
    now: float
    _steps: dict[str, list[int]] = field(default_factory=dict)
    _pace: float = GUESSED_S

    def __post_init__(self) -> None:
        for address, step in sorted(self.states):
            self._steps.setdefault(address, []).append(step)
        known = [state.seconds_per_step for state in self.states.values() if state.seconds_per_step]
        self._pace = statistics.median(known) if known else GUESSED_S

    @property
    def size(self) -> int:
        """Bytes of all states."""
        return sum(state.size for state in self.states.values())

    def in_use(self) -> set[Key]:
        """States that may be asked for right now: young ones, those of leased segments, and what such ones rest on."""
        used = {key for key, state in self.states.items() if self.now - state.changed < YOUNG_S}
        used |= {key for key in self.states if key[0] in self.leased}
        for key in list(used):
            for address, step in self.states[key].rests_on:
                nearest = self._nearest(address, step, self.states)
                if nearest is not None:
                    used.add((address, nearest))
        return used

    def seconds_per_step(self, address: str) -> float:
        """How long a step of a segment takes; where nobody measured it, as long as the median elsewhere."""
        known = [self.states[address, step].seconds_per_step for step in self._steps.get(address, ())]
        measured = [seconds for seconds in known if seconds]
        return statistics.median(measured) if measured else self._pace

    def rebuilding(self, keys: Iterable[Key], kept: Collection[Key]) -> float:
        """Seconds of training that it takes to have states again.

        Args:
            keys: of the states; none of them counts as kept.
            kept: of the states that are there then.
        """
        lost = set(keys)
        targets: dict[str, set[int]] = {}
        queue = list(lost)
        while queue:
            address, step = queue.pop()
            if step in targets.setdefault(address, set()):
                continue
            targets[address].add(step)
            if self._nearest(address, step, kept, lost) is None:
                queue += self._rests(address)
        total = 0.0
        for address, steps in targets.items():
            reached = 0
            for step in sorted(steps):
                # A step that was asked for on the way there is stored, and gone on from.
                begin = max(reached, self._nearest(address, step, kept, lost) or 0)
                total += (step - begin) * self.seconds_per_step(address)
                reached = step
        return total

    def _rests(self, address: str) -> frozenset[Key]:
        return frozenset[Key]().union(*(self.states[address, step].rests_on for step in self._steps.get(address, ())))

    def _nearest(
        self, address: str, step: int, kept: Collection[Key], lost: Collection[Key] = frozenset()
    ) -> int | None:
        """The nearest kept state at or before a step."""
        for at in reversed(self._steps.get(address, ())):
            key = (address, at)
            if at <= step and key in kept and key not in lost and self.states[key].valid:
                return at
        return None


def take_census(storage: StoragePath, now: float | None = None) -> Inventory:
    """Look at every state of a storage. Links are not followed, and no tensors are read.

    Raises:
        StorageError: the object store is away.
    """
    now = time.time() if now is None else now
    states: dict[Key, StoredState] = {}
    leased: set[str] = set()
    walk = _walk_objects(storage) if isinstance(storage, ObjectPath) else _walk_folders(storage)
    for vertex, files in walk:
        if LEASE_FILE in files and _is_renewed(vertex / LEASE_FILE, now):
            leased.add(vertex.name)
        parts: dict[str, list[_File]] = {}
        for name, file in files.items():
            folder, slash, _ = name.partition("/")
            if slash and step_of(folder) is not None:
                parts.setdefault(folder, []).append(file)
        for folder, found in parts.items():
            state = _state(vertex, folder, found)
            states[state.key] = state
    return Inventory(states, frozenset(leased), now)


@dataclass(frozen=True)
class _File:
    size: int
    changed: float


def _walk_objects(storage: ObjectPath) -> Iterator[tuple[StoragePath, dict[str, _File]]]:
    """Every segment, with the files in it by name: one listing for all."""
    root = storage / VERTICES
    found: dict[str, dict[str, _File]] = {}
    for path in root.walk():
        _, address, name = [*path.key.removeprefix(f"{root.key}/").split("/", 2), "", ""][:3]
        if path.listed is not None and ADDRESS.fullmatch(address):
            found.setdefault(address, {})[name] = _File(path.listed.size, path.listed.changed)
    for address, files in found.items():
        yield vertex_folder(storage, address), files


def _walk_folders(storage: Path) -> Iterator[tuple[StoragePath, dict[str, _File]]]:
    for shard in _folders(storage / VERTICES):
        for vertex in _folders(shard):
            if ADDRESS.fullmatch(vertex.name):
                inside = [vertex, *_folders(vertex)]
                files = {name: file for folder in inside for name, file in _files(vertex, folder)}
                yield vertex, files


def _folders(parent: Path) -> list[Path]:
    try:
        return sorted(path for path in parent.iterdir() if path.is_dir() and not path.is_symlink())
    except OSError:
        return []


def _files(vertex: Path, folder: Path) -> Iterator[tuple[str, _File]]:
    # A state can be removed, or moved into its place, at any moment.
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_file(follow_symlinks=False):
                status = entry.stat(follow_symlinks=False)
                name = entry.name if folder == vertex else f"{folder.name}/{entry.name}"
                yield name, _File(status.st_size, status.st_mtime)


def _state(vertex: StoragePath, name: str, files: list[_File]) -> StoredState:
    step = step_of(name)
    assert step is not None
    size, changed = sum(file.size for file in files), max(file.changed for file in files)
    folder = vertex / name
    try:
        with open_regular(folder / MANIFEST) as file:
            meta = read_manifest(file.read(MAX_BYTES + 1))["meta"]
    except (OSError, ValueError):
        return StoredState(folder, vertex.name, step, size, changed, valid=False)
    pace = meta.get("seconds_per_step")
    measured = float(pace) if isinstance(pace, (int, float)) and pace > 0 else None
    rests = frozenset(rests_on(meta))
    return StoredState(folder, vertex.name, step, size, changed, True, measured, rests, str(meta.get("stretch", "")))


def _is_renewed(lease: StoragePath, now: float) -> bool:
    """Whether somebody holds a stretch: its lease was renewed within the last minute."""
    try:
        return now - float(read_json(lease)["time"]) < LEASE_STALE_S
    except (UserError, KeyError, TypeError, ValueError):
        return False
