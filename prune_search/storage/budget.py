"""Keeps a storage within its budget: removes the states cheapest to retrain per byte first, never those in use.

Removing a state is harmless, whenever it is done: whoever needs it trains it again, and gets the same bits.
"""

from __future__ import annotations

import contextlib
import heapq
import logging
import re
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from prune_search.recipe.problems import Problem, UserError, shown
from prune_search.storage.files import StorageError, remove_stale
from prune_search.storage.inventory import Inventory, StoredState, take_census
from prune_search.storage.manifests import Key, remove_state
from prune_search.storage.names import VERTICES
from prune_search.storage.places import StoragePath

VARIABLE = "PRUNE_SEARCH_STORAGE_BUDGET"
# Longer than any write takes, also on another machine.
LEFTOVER_S = 3600.0
LOOK_EVERY_S = 60.0
FINISH_S = 30.0
_UNITS = {"": 1, "B": 1}
_UNITS |= {f"{letter}B": 1000**power for power, letter in enumerate("KMGTP", 1)}
_UNITS |= {f"{letter}IB": 1024**power for power, letter in enumerate("KMGTP", 1)}
_SIZE = re.compile(r"(?P<number>[0-9]{1,15}(\.[0-9]{1,6})?) ?(?P<unit>[A-Za-z]{0,3})")

_log = logging.getLogger("prune_search")


def read_size(text: str, option: str = "--budget") -> int:
    """Bytes from ``20GB``, ``500 MB``, ``1.5TiB`` or a plain number.

    Raises:
        UserError: it is no size.
    """
    match = _SIZE.fullmatch(text.strip())
    unit = _UNITS.get(match["unit"].upper()) if match else None
    if match is None or unit is None:
        raise UserError([Problem(option, f"must be a size such as 20GB, 500MB or 1.5TiB (got {shown(text)})")])
    return int(float(match["number"]) * unit)


def shown_size(size: float) -> str:
    """Bytes as people say them: ``1.5 GB``."""
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if size < 1000 or unit == "TB":
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    raise AssertionError("unreachable")


def to_remove(inventory: Inventory, budget: int) -> list[StoredState]:
    """The states that must go so that the others fit into a budget, in the order in which they go.

    Invalid ones are first. Then, one after another, the one that costs the fewest seconds of training per byte, given
    what is left; costs only rise while states go, so that a stale entry of the heap is simply priced anew.

    Args:
        inventory: of the storage.
        budget: bytes that the states may take. Where those in use take more, they stay.
    """
    used = inventory.in_use()
    kept = dict(inventory.states)
    free = [state for key, state in inventory.states.items() if key not in used]
    heap = [(_price(inventory, state, kept), state.key) for state in free]
    heapq.heapify(heap)
    size, going = inventory.size, []
    while heap and (size > budget or heap[0][0] < 0):
        price, key = heapq.heappop(heap)
        state = inventory.states[key]
        now = _price(inventory, state, kept)
        if now > price and heap and (now, key) > heap[0]:
            heapq.heappush(heap, (now, key))
            continue
        del kept[key]
        size -= state.size
        going.append(state)
    return going


def _price(inventory: Inventory, state: StoredState, kept: dict[Key, StoredState]) -> float:
    """Seconds of training per byte that its removal frees."""
    return inventory.rebuilding([state.key], kept) / max(1, state.size) if state.valid else -1.0


@dataclass(frozen=True)
class Freed:
    """What was removed.

    Attributes:
        states: how many.
        size: bytes of them.
        leftovers: half-written files and folders of dead processes.
    """

    states: int
    size: int
    leftovers: int


def clean(storage: StoragePath, budget: int | None) -> Freed:
    """Remove what dead processes left, and states until the others fit into a budget.

    Args:
        storage: whose states may be removed.
        budget: bytes that the states may take; None: none is removed but invalid ones.

    Raises:
        StorageError: the object store is away, or something cannot be removed.
    """
    leftovers = sum(remove_stale(folder, LEFTOVER_S) for folder in _folders(storage))
    inventory = take_census(storage)
    going = to_remove(inventory, inventory.size if budget is None else budget)
    for state in going:
        remove_state(state.folder)
    return Freed(len(going), sum(state.size for state in going), leftovers)


def _folders(storage: StoragePath) -> Iterator[Path]:
    """The folders of a file system in which something can be half-written."""
    if isinstance(storage, Path):
        with contextlib.suppress(OSError):
            for pattern in (f"{VERTICES}/*/*", "searches/*", "searches/*/trials/*"):
                yield from (path for path in storage.glob(pattern) if path.is_dir() and not path.is_symlink())


class StorageCleaner:
    """Keeps a storage within its budget while a search runs, in a thread of its own: nobody waits for it.

    Args:
        storage: of the states.
        budget: bytes; None: nothing is ever removed.
    """

    def __init__(self, storage: StoragePath, budget: int | None) -> None:
        self.storage = storage
        self._budget = budget
        self._last = time.monotonic() - LOOK_EVERY_S
        self._thread: threading.Thread | None = None

    def trial_ended(self) -> None:
        """A trial has ended: look, unless that was done a moment ago or is being done."""
        busy = self._thread is not None and self._thread.is_alive()
        if self._budget is None or busy or time.monotonic() - self._last < LOOK_EVERY_S:
            return
        self._last = time.monotonic()
        self._thread = threading.Thread(target=self._look, args=(self._budget,), name="storage budget", daemon=True)
        self._thread.start()

    def finish(self) -> None:
        """The search is over: look once more."""
        if self._thread is not None:
            self._thread.join(FINISH_S)
        if self._budget is not None:
            self._look(self._budget)

    def _look(self, budget: int) -> None:
        try:
            freed = clean(self.storage, budget)
        except StorageError as error:
            _log.warning("cannot keep the storage within its budget: %s", error)
            return
        if freed.states:
            _log.info("removed %d stored states (%s) to stay within the budget", freed.states, shown_size(freed.size))
