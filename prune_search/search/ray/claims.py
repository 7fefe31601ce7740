"""Decides which worker trains which segment: one named actor per Ray cluster, and a lease next to the states.

The actor answers in a millisecond and knows every search of its cluster. The lease, created only where there is none,
holds across clusters on one storage. Where a storage cannot create a file conditionally, two clusters can train the
same segment, which is counted (`steps_repeated`) and harmless: the first state stored stays.
"""

from __future__ import annotations

import os
import secrets
import socket
import threading
import time
from dataclasses import dataclass, field, replace
from typing import Any

from prune_search.recipe.problems import UserError
from prune_search.search.ray.kept_workers import Roll
from prune_search.storage.files import StorageError
from prune_search.storage.lease import RENEW_EVERY_S, Holder, Lease, read_holder, started, this_place
from prune_search.storage.names import vertex_folder
from prune_search.storage.places import StoragePath

ACTOR, NAMESPACE = "prune-search-claims", "prune-search"
ANSWER_S = 30.0


class Register:
    """The claims of a cluster, and the workers of its searches; in it, a named actor."""

    def __init__(self) -> None:
        self._claims: dict[tuple[str, str], Holder] = {}
        self._roll = Roll()

    def roll(self, method: str, *words: Any) -> Any:
        """What the roll of workers answers (see `kept_workers.Roll`)."""
        return getattr(self._roll, method)(*words)

    def take(self, storage: str, address: str, holder: Holder) -> bool:
        """Claim a segment for a holder; False where another one that is alive has it."""
        present = self._claims.get((storage, address))
        if present is not None and present.token != holder.token and present.alive():
            return False
        self._claims[storage, address] = replace(holder, time=time.time())
        return True

    def renew(self, token: str) -> None:
        """A sign of life of a holder."""
        now = time.time()
        for place, holder in self._claims.items():
            if holder.token == token:
                self._claims[place] = replace(holder, time=now)

    def give(self, storage: str, address: str, token: str) -> None:
        """Give a claim back."""
        present = self._claims.get((storage, address))
        if present is not None and present.token == token:
            del self._claims[storage, address]


def cluster_register() -> Any:
    """The cluster's register: the one that is there, or a new one that outlives this driver."""
    import ray

    # It needs no CPU of its own, so that it takes none from a trial. Without a strategy an actor that a trial makes
    # lies in the placement group of that trial, and ends with it for good.
    options = {"name": ACTOR, "namespace": NAMESPACE, "get_if_exists": True, "lifetime": "detached", "num_cpus": 0}
    options["scheduling_strategy"] = "DEFAULT"
    return ray.remote(Register).options(max_restarts=-1, **options).remote()


def ask_roll(method: str, *words: Any) -> Any:
    """What the roll of workers in the cluster's register says; None where that is gone."""
    import ray
    from ray.exceptions import GetTimeoutError, RayActorError

    try:
        return ray.get(cluster_register().roll.remote(method, *words), timeout=ANSWER_S)
    except (RayActorError, GetTimeoutError):
        return None


@dataclass
class StorageClaims:
    """Claims as leases that lie beside the states.

    Attributes:
        storage: of the states.
    """

    storage: StoragePath
    replays = True
    _leases: dict[str, Lease] = field(default_factory=dict)

    def take(self, address: str) -> bool:
        """Claim a segment; True also where no lease can be stored, since nothing else can be stored there then."""
        folder = vertex_folder(self.storage, address)
        lease = Lease(folder, lost=lambda: None)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            lease.__enter__()
        except UserError:
            return False
        except (OSError, StorageError):
            return True
        self._leases[address] = lease
        return True

    def give(self, address: str) -> None:
        """Give a claim back."""
        lease = self._leases.pop(address, None)
        if lease is not None:
            lease.__exit__()


class ClusterClaims:
    """The cluster's register first, then the lease on the storage.

    Args:
        storage: of the states.
    """

    replays = True

    def __init__(self, storage: StoragePath) -> None:
        self._storage = StorageClaims(storage)
        self._name = str(storage)
        self._register = cluster_register()
        pid = os.getpid()
        self._holder = Holder(socket.gethostname(), pid, started(pid), secrets.token_hex(16), time.time(), this_place())
        self._held: set[str] = set()
        self._over = threading.Event()
        # Its process can have to start first, which is waited for here, and not while a trial's heart is listened to.
        self._ask("renew", self._holder.token, otherwise=None)
        threading.Thread(target=self._renew, name="claims", daemon=True).start()

    def take(self, address: str) -> bool:
        """Claim a segment; False where somebody else who is alive has it."""
        if not self._ask("take", self._name, address, self._holder, otherwise=True):
            return False
        if self._storage.take(address):
            self._held.add(address)
            return True
        self._ask("give", self._name, address, self._holder.token, otherwise=None)
        return False

    def give(self, address: str) -> None:
        """Give a claim back."""
        self._held.discard(address)
        self._storage.give(address)
        # No answer is waited for: it reaches the register before this trial's next question, and before its end.
        self._register.give.remote(self._name, address, self._holder.token)

    def close(self) -> None:
        """The trial is over."""
        self._over.set()

    def _ask(self, method: str, *words: Any, otherwise: Any) -> Any:
        """What the register says; where it is gone, the leases on the storage alone decide."""
        import ray
        from ray.exceptions import GetTimeoutError, RayActorError

        try:
            return ray.get(getattr(self._register, method).remote(*words), timeout=ANSWER_S)
        except (RayActorError, GetTimeoutError):
            return otherwise

    def _renew(self) -> None:
        while not self._over.wait(RENEW_EVERY_S):
            if self._held:
                self._register.renew.remote(self._holder.token)


def is_free(storage: StoragePath, address: str) -> bool:
    """Whether nobody who is alive holds a segment on the storage."""
    holder = read_holder(vertex_folder(storage, address))
    return holder is None or not holder.alive()
