"""Examines the nodes of a cluster from within: versions, GPUs, disk, clock, and their view of a storage."""

from __future__ import annotations

import contextlib
import importlib.metadata
import platform
import shutil
import socket
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from prune_search.storage.places import StoragePath, place_of

PACKAGES = ("ray", "torch", "numpy", "optuna", "mlflow", "safetensors")
ANSWER_S = 120.0


@dataclass(frozen=True)
class ClusterNode:
    """What a node tells of itself.

    Attributes:
        name: host name and address.
        versions: of Python and of the packages that a trial depends on; a missing one is ``none``.
        gpus: that Ray counts there.
        gpus_seen: that torch sees there.
        disk_free: bytes, of the folder for temporary files.
        clock: seconds that its clock is ahead of this machine's, to within `clock_within`.
        clock_within: half the time that asking took.
        found: whether it read what was put into the storage here.
        wrote: name of the file that it put there, or why it could not.
    """

    name: str
    versions: dict[str, str]
    gpus: float
    gpus_seen: int
    disk_free: int
    clock: float
    clock_within: float
    found: bool
    wrote: str


class Reporter:
    """Looks around on the node that it runs on; on a cluster an actor."""

    def now(self) -> float:
        """The node's clock, in seconds since the epoch."""
        return time.time()

    def facts(self) -> dict[str, Any]:
        """Versions, disk and GPUs."""
        import torch

        return {
            "host": socket.gethostname(),
            "versions": versions(),
            "gpus_seen": torch.cuda.device_count() if torch.cuda.is_available() else 0,
            "disk_free": shutil.disk_usage(tempfile.gettempdir()).free,
        }

    def storage(self, folder: str, here: str, mine: str) -> tuple[bool, str]:
        """Whether the file `here` is in a folder of the storage, and ``""`` once `mine` is there too, else why not."""
        from prune_search.storage.errors import StorageError, one_line
        from prune_search.storage.files import put_file

        place = place_of(folder)
        try:
            found = (place / here).is_file()
            if not found and not place.is_dir():
                return found, f"there is no {folder}"
            put_file(place / mine, b"{}")
        except (OSError, StorageError) as error:
            return False, one_line(error)
        return found, ""


def versions() -> dict[str, str]:
    """Of Python and of the packages that a trial depends on, in this process."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            found[package] = "none"
    return found


def this_machine(folder: StoragePath, here: str) -> ClusterNode:
    """This machine, asked without Ray."""
    reporter = Reporter()
    told = reporter.facts()
    found, wrote = reporter.storage(str(folder), here, "this-machine")
    name, gpus = told["host"], told["gpus_seen"]
    return ClusterNode(name, told["versions"], gpus, gpus, told["disk_free"], 0.0, 0.0, found, wrote)


@contextlib.contextmanager
def cluster(address: str) -> Iterator[Callable[[StoragePath, str], list[ClusterNode]]]:
    """A connection to a cluster; what is yielded asks every node that lives.

    Raises:
        UserError: there is no such cluster, or it does not let us in.
    """
    from prune_search.search.ray.address import check_address
    from prune_search.search.ray.connection import connect, disconnect

    check_address(address)
    connect(address, {})
    try:
        yield _ask
    finally:
        disconnect()


def _ask(folder: StoragePath, here: str) -> list[ClusterNode]:
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    living = [node for node in ray.nodes() if node["Alive"]]  # type: ignore[no-untyped-call]
    actors: list[Any] = []
    for node in living:
        # Without a CPU of its own it need not wait for the trials that run there.
        where = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
        actors.append(ray.remote(Reporter).options(num_cpus=0, scheduling_strategy=where).remote())
    facts = ray.get([actor.facts.remote() for actor in actors], timeout=ANSWER_S)
    written = [actor.storage.remote(str(folder), here, f"node-{number}") for number, actor in enumerate(actors)]
    storage = ray.get(written, timeout=ANSWER_S)
    clocks = [_clock(actor) for actor in actors]
    for actor in actors:
        ray.kill(actor)
    return [
        ClusterNode(
            f"{fact['host']} ({node['NodeManagerAddress']})",
            fact["versions"],
            float(node["Resources"].get("GPU", 0.0)),
            fact["gpus_seen"],
            fact["disk_free"],
            *clock,
            *seen,
        )
        for node, fact, clock, seen in zip(living, facts, clocks, storage, strict=True)
    ]


def _clock(actor: Any) -> tuple[float, float]:
    import ray

    begun = time.time()
    there = ray.get(actor.now.remote(), timeout=ANSWER_S)
    ended = time.time()
    return there - (begun + ended) / 2, (ended - begun) / 2
