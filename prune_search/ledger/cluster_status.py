"""The status of the cluster that a search's driver publishes for `status`. No torch, no ray.

It lies in ``cluster.json`` beside the records, is written again and again while the search runs, and decides nothing.
"""

from __future__ import annotations

import json
import math
import time
from dataclasses import asdict, dataclass

from prune_search.recipe.problems import UserError
from prune_search.storage.files import put_file
from prune_search.storage.json_files import read_json
from prune_search.storage.places import StoragePath

CLUSTER_FILE = "cluster.json"
FRESH_S = 60.0


@dataclass(frozen=True)
class Machines:
    """The nodes of a Ray cluster, and how much of them is given to trials, whosoever they are.

    Attributes:
        nodes: that are there.
        lost: nodes that were there and are gone.
        cpus, gpus: that they have.
        cpus_used, gpus_used: that are given away; parts of one count as parts.
        time: seconds since the epoch, when it was so.
    """

    nodes: int
    lost: int
    cpus: float
    cpus_used: float
    gpus: float
    gpus_used: float
    time: float


def tell_machines(folder: StoragePath, machines: Machines) -> None:
    """Store it beside the records of the search in a folder.

    Raises:
        StorageError: it could not be written.
    """
    put_file(folder / CLUSTER_FILE, json.dumps(asdict(machines)).encode(), lasting=False)


def read_machines(folder: StoragePath, now: float | None = None) -> Machines | None:
    """What was told last; None where nothing was told in the last minute.

    Args:
        folder: of the search.
        now: seconds since the epoch; None: the clock's.
    """
    try:
        content = read_json(folder / CLUSTER_FILE)
        figures = {name: float(content[name]) for name in ("cpus", "cpus_used", "gpus", "gpus_used", "time")}
        machines = Machines(nodes=int(content["nodes"]), lost=int(content["lost"]), **figures)
    except (UserError, KeyError, TypeError, ValueError, OverflowError):
        return None
    age = (time.time() if now is None else now) - machines.time
    return machines if age < FRESH_S and all(map(math.isfinite, figures.values())) else None
