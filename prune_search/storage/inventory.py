"""Takes the inventory of a storage: every state with its size, retraining cost and whether it is in use. No torch.

A state is rebuilt from the nearest kept one before it on its segment; where there is none, from the beginning of the
segment, for which what the segment rests on must be there or be rebuilt as well.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field

from prune_search.recipe.problems import UserError
from prune_search.storage.files import FoundFile, open_regular, walk_files
from prune_search.storage.json_files import LEASE_FILE, read_json
from prune_search.storage.lease import STALE_AFTER_S
from prune_search.storage.manifests import ADDRESS, MANIFEST, MAX_BYTES, Key, read_manifest, rests_on, step_of
from prune_search.storage.names import VERTICES
from prune_search.storage.places import StoragePath

# A state that was stored a moment ago is about to be asked for.
YOUNG_S = 300.0
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


def take_inventory(storage: StoragePath, now: float | None = None) -> Inventory:
    """Look at every state of a storage. Links are not followed, and no tensors are read.

    Raises:
        StorageError: the object store is away.
    """
    now = time.time() if now is None else now
    root = storage / VERTICES
    vertices: dict[tuple[str, str], dict[str, FoundFile]] = {}
    for file in walk_files(root):
        shard, address, name = [*file.name.split("/", 2), "", ""][:3]
        if ADDRESS.fullmatch(address):
            vertices.setdefault((shard, address), {})[name] = file
    states: dict[Key, StoredState] = {}
    leased: set[str] = set()
    for (shard, address), files in sorted(vertices.items()):
        vertex = root / shard / address
        if LEASE_FILE in files and _is_renewed(vertex / LEASE_FILE, now):
            leased.add(address)
        parts: dict[str, list[FoundFile]] = {}
        for name, file in files.items():
            folder, slash, _ = name.partition("/")
            if slash and step_of(folder) is not None:
                parts.setdefault(folder, []).append(file)
        for folder, found in parts.items():
            state = _state(vertex, folder, found)
            states[state.key] = state
    return Inventory(states, frozenset(leased), now)


def _state(vertex: StoragePath, name: str, files: list[FoundFile]) -> StoredState:
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
    """Whether somebody holds a segment: its lease was renewed within the last minute."""
    try:
        return now - float(read_json(lease)["time"]) < STALE_AFTER_S
    except (UserError, KeyError, TypeError, ValueError):
        return False
