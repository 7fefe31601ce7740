"""A thread of the driver that records the status of the cluster, for `status`."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Iterator

from prune_search.ledger.cluster_status import Machines, tell_machines
from prune_search.storage.files import StorageError
from prune_search.storage.places import StoragePath

TELL_EVERY_S = 5.0

_log = logging.getLogger("prune_search")


def machines_now() -> Machines:
    """The cluster of this process, as Ray sees it."""
    import ray

    alive = [bool(node["Alive"]) for node in ray.nodes()]  # type: ignore[no-untyped-call]
    has = ray.cluster_resources()  # type: ignore[no-untyped-call]
    free = ray.available_resources()  # type: ignore[no-untyped-call]
    cpus, gpus = (float(has.get(kind, 0.0)) for kind in ("CPU", "GPU"))
    return Machines(
        nodes=sum(alive),
        lost=len(alive) - sum(alive),
        cpus=cpus,
        cpus_used=max(0.0, cpus - float(free.get("CPU", 0.0))),
        gpus=gpus,
        gpus_used=max(0.0, gpus - float(free.get("GPU", 0.0))),
        time=time.time(),
    )


@contextlib.contextmanager
def telling(folder: StoragePath) -> Iterator[None]:
    """Tell how the cluster stands while the block runs."""
    over = threading.Event()

    def tell() -> None:
        while True:
            try:
                tell_machines(folder, machines_now())
            except StorageError as error:
                _log.debug("cannot record the status of the cluster: %s", error)
            except Exception as error:  # noqa: BLE001 - a cluster that does not answer is the trials' trouble, not ours
                _log.debug("Ray does not report the status of the cluster: %s", error)
            if over.wait(TELL_EVERY_S):
                return

    thread = threading.Thread(target=tell, name="cluster", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join(timeout=TELL_EVERY_S)
