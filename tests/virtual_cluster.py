"""A Ray cluster of several nodes on this machine, and searches on it whose nodes are killed.

As a script it is the driver, in a process of its own since a process has one Ray:

    python tests/virtual_cluster.py PLAN.json

prints, as JSON, what became of each search of the plan (see `Planned`).
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from real_search import HALT, TROUBLE, environment

from prune_search.ledger.records import SearchRecords, TrialRecords, read_search, search_folder
from prune_search.recipe.problems import UserError

LIMIT_S = 600.0


@dataclass(frozen=True)
class Planned:
    """A search, and when the node of one of its trials is killed.

    Attributes:
        name: of the search.
        file: of its space.
        storage: shared by all nodes.
        tracking_uri: of MLflow.
        halt: kill a node when one of its trials is at this training step; None: not so.
        ended: kill a node when so many trials have ended; None: not so.
        sets: as `launch` takes them.
    """

    name: str
    file: str
    storage: str
    tracking_uri: str
    halt: int | None = None
    ended: int | None = None
    sets: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Nodes:
    """The worker nodes; the head runs no trial.

    Attributes:
        count: of them.
        cpus: of each.
        gpus: of each, as Ray believes.
    """

    count: int = 2
    cpus: int = 1
    gpus: int = 0


def run_searches(nodes: Nodes, plans: list[Planned], home: Path, limit_s: float = LIMIT_S) -> list[dict[str, Any]]:
    """Run searches one after the other on one cluster, in a process of its own.

    Returns:
        Per search: ``killed``, the nodes; ``counts``, the trials by status; ``undelivered``; ``wall_s``.
    """
    file = home / "plan.json"
    file.write_text(json.dumps({"nodes": asdict(nodes), "searches": [asdict(plan) for plan in plans]}))
    command = [sys.executable, __file__, str(file)]
    done = subprocess.run(
        command, env=environment(home), cwd=home, text=True, capture_output=True, timeout=limit_s, check=False
    )
    assert done.returncode == 0, done.stderr[-4000:]
    found: list[dict[str, Any]] = json.loads(done.stdout.splitlines()[-1])
    return found


class VirtualCluster:
    """A head that runs no trial, and worker nodes that come and go."""

    def __init__(self, nodes: Nodes) -> None:
        from ray.cluster_utils import Cluster

        self.nodes = nodes
        # Paths of sockets are short.
        self.folder = tempfile.mkdtemp(prefix="ps-nodes-")
        head = {"num_cpus": 0, "include_dashboard": False, "temp_dir": self.folder}
        self.cluster = Cluster(initialize_head=True, head_node_args=head)
        for _ in range(nodes.count):
            self.add()

    def add(self) -> None:
        """A node more."""
        self.cluster.add_node(num_cpus=self.nodes.cpus, num_gpus=self.nodes.gpus)

    def kill(self, node_id: str) -> None:
        """A node is gone, with all that runs on it."""
        node = next(node for node in self.cluster.worker_nodes if node.node_id == node_id)
        self.cluster.remove_node(node, allow_graceful=False)


@contextlib.contextmanager
def virtual_cluster(nodes: Nodes) -> Iterator[VirtualCluster]:
    """A cluster to which this process is connected."""
    from prune_search.search.ray.connection import disconnect
    from prune_search.search.ray.driver import SETTINGS

    os.environ.update(SETTINGS)
    import ray

    found = VirtualCluster(nodes)
    try:
        ray.init(address=found.cluster.address, log_to_driver=False, logging_level=40)
        yield found
    finally:
        disconnect()
        found.cluster.shutdown()  # type: ignore[no-untyped-call]
        shutil.rmtree(found.folder, ignore_errors=True)


def _running(records: SearchRecords) -> list[TrialRecords]:
    return [trial for trial in records.trials.values() if trial.status == "running"]


class Killer(threading.Thread):
    """Kills the node of a trial when the plan says so.

    Attributes:
        killed: the nodes.
    """

    def __init__(self, plan: Planned, cluster: VirtualCluster) -> None:
        super().__init__(daemon=True)
        self.plan, self.cluster = plan, cluster
        self.killed: list[str] = []
        self.over = threading.Event()
        self.file = Path(os.environ[TROUBLE]) / HALT
        self.file.with_suffix(".pid").unlink(missing_ok=True)
        if plan.halt is not None:
            self.file.write_text(str(plan.halt))

    def run(self) -> None:
        chosen: Callable[[SearchRecords], list[TrialRecords]] = (
            self._halted if self.plan.halt is not None else self._after_enough
        )
        while not self.over.wait(0.05) and (self.plan.halt, self.plan.ended) != (None, None):
            with contextlib.suppress(UserError):
                records = read_search(search_folder(Path(self.plan.storage), self.plan.name))
                for trial in chosen(records):
                    self.killed.append(str(trial.attempts[-1].data["node"]))
                    self.cluster.kill(self.killed[-1])
                    return

    def _halted(self, records: SearchRecords) -> list[TrialRecords]:
        """The trial that stays at its step."""
        told = self.file.with_suffix(".pid")
        pid = int(told.read_text()) if told.exists() else None
        return [trial for trial in _running(records) if trial.attempts[-1].data["pid"] == pid]

    def _after_enough(self, records: SearchRecords) -> list[TrialRecords]:
        """Any trial, once enough have ended."""
        ended = sum(trial.ended is not None for trial in records.numbered())
        return _running(records) if ended >= (self.plan.ended or 0) else []


def run_here(plan: Planned, cluster: VirtualCluster) -> dict[str, Any]:
    """Run a search on the cluster of this process."""
    import prune_search

    killer, begun = Killer(plan, cluster), time.monotonic()
    killer.start()
    where = prune_search.Where(storage=plan.storage)
    options = prune_search.Options(plan.name, tracking_uri=plan.tracking_uri)
    outcome = prune_search.launch(plan.file, set=plan.sets, where=where, options=options)
    killer.over.set()
    killer.join()
    # Ray starts nodes in the main thread only.
    for _ in killer.killed:
        cluster.add()
    counts = outcome.as_data()["trials"]
    wall_s = time.monotonic() - begun
    return {"killed": killer.killed, "counts": counts, "undelivered": outcome.undelivered, "wall_s": wall_s}


def main() -> None:
    """Run the plan in the file that is named."""
    import troubled  # noqa: F401 - registers what the spaces name

    plan = json.loads(Path(sys.argv[1]).read_text())
    with virtual_cluster(Nodes(**plan["nodes"])) as cluster:
        print(json.dumps([run_here(Planned(**one), cluster) for one in plan["searches"]]))


if __name__ == "__main__":
    main()
