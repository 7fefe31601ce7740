"""Keeps a storage within its budget: removes the states cheapest to retrain per byte first, never those in use.

Removing a state is harmless, whenever it is done: whoever needs it trains it again, and gets the same bits.
"""

from __future__ import annotations

import heapq
import logging
import threading
import time
from dataclasses import dataclass

from prune_search.storage.files import StorageError, remove_stale
from prune_search.storage.inventory import Inventory, StoredState, take_inventory
from prune_search.storage.manifests import Key, remove_state
from prune_search.storage.names import VERTICES
from prune_search.storage.places import StoragePath
from prune_search.storage.sizes import shown_size

VARIABLE = "PRUNE_SEARCH_STORAGE_BUDGET"
# Longer than any write takes, also on another machine.
LEFTOVER_S = 3600.0
LOOK_EVERY_S = 60.0
FINISH_S = 30.0
# The folders in which something can be half-written, or half removed.
_WRITTEN = (f"{VERTICES}/*/*", "searches", "searches/*", "searches/*/trials/*")

_log = logging.getLogger("prune_search")


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
    leftovers = remove_stale(storage, _WRITTEN, LEFTOVER_S)
    inventory = take_inventory(storage)
    going = to_remove(inventory, inventory.size if budget is None else budget)
    for state in going:
        remove_state(state.folder)
    return Freed(len(going), sum(state.size for state in going), leftovers)


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
