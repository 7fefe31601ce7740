"""Runs the next trials with Ray Tune. Tune's own state is never read back; the ledger is."""

from __future__ import annotations

import contextlib
import functools
import logging
import math
import os
import shutil
import signal
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

from prune_search.ledger.records import SearchRecords, TrialRecords
from prune_search.recipe.problems import Problem, UserError
from prune_search.recipe.search_block import metrics_asked, workers_of
from prune_search.recipe.space import Space
from prune_search.search.epochs import EpochLengths
from prune_search.search.next_trial import NextTrial
from prune_search.search.ray.address import check_address
from prune_search.search.ray.claims import cluster_register, is_free
from prune_search.search.ray.cluster_reporter import telling
from prune_search.search.ray.connection import connect, disconnect
from prune_search.search.ray.stop_signal import STOP_FILE, ask_to_stop
from prune_search.search.ray.trainable import trainable
from prune_search.search.ray.worker import TrialJob
from prune_search.search.shared_tree import Tree, askable_stops
from prune_search.storage.lease import Lease, held, read_holder
from prune_search.storage.places import StoragePath

if TYPE_CHECKING:
    from ray.tune import PlacementGroupFactory

logger = logging.getLogger("prune_search")

HEARTBEAT_S = 300.0
# Tune must not install handlers, write its own logs, or take snapshots that nobody reads; Ray must not tell its makers.
SETTINGS = {
    "RAY_USAGE_STATS_ENABLED": "0",
    # Tune's workers have an environment of their own: those that Ray starts beforehand only take their place.
    "RAY_prestart_worker_first_driver": "0",
    # A user's code finds its files where the command was typed.
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_GLOBAL_CHECKPOINT_S": "1000000",
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_DEDUP_LOGS": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
}


@dataclass(frozen=True)
class TrialResources:
    """What the trials of a search are run with.

    Attributes:
        folder: of the search.
        storage: of the stored states.
        data_root: folder of the data sets' files, or None.
        code: the user's own model and data by name.
        device: ``auto``, ``cpu`` …
        address: of a Ray cluster; None starts Ray on this machine.
        heartbeat_s: a worker that makes no step for so long is started again.
        examples: size of the training set; 0 where it is not known.
        sharing: whether trials share what they train, with each other and with other searches on the storage.
        system_metrics: whether trials write down the memory that they take.
    """

    folder: StoragePath
    storage: StoragePath
    data_root: Path | None = None
    code: Mapping[str, str | None] = field(default_factory=dict)
    device: str = "auto"
    address: str | None = None
    heartbeat_s: float = HEARTBEAT_S
    examples: int = 0
    sharing: bool = True
    system_metrics: bool = False


@dataclass
class StopRequest:
    """Whether the search was asked to end, and by which signal.

    Attributes:
        signal: SIGINT or SIGTERM once one has come.
        lost: whether another process has taken the search over.
    """

    signal: int | None = None
    lost: bool = False

    def __call__(self) -> bool:
        return self.signal is not None or self.lost


Grids = Mapping[str, tuple[int, ...]]
Listener = Callable[[SearchRecords, TrialRecords | None], None]


@contextlib.contextmanager
def holding(folder: StoragePath) -> Iterator[StopRequest]:
    """Hold a search, so that no other process runs it, and watch for the signals that ask it to end.

    Args:
        folder: of the search.

    Raises:
        UserError: somebody else holds it, or has taken it over in the meantime.
    """
    asked = StopRequest()
    with Lease(folder, lost=lambda: setattr(asked, "lost", True)):
        (folder / STOP_FILE).unlink(missing_ok=True)
        with _signals(asked, folder):
            yield asked
    if asked.lost:
        raise UserError([held(folder, read_holder(folder))])


def run_search(
    space: Space, means: TrialResources, asked: StopRequest, listener: Listener | None = None
) -> SearchRecords:
    """Run a search from its ledger to its end, or until it is asked to stop.

    Args:
        space: what is searched; its search block says how.
        means: folders, data, code, cluster.
        asked: from `holding`.
        listener: told the records whenever a trial was started or ended.

    Returns:
        The records.

    Raises:
        UserError: a trial needs more than this machine has, or a thousand draws in a row were invalid.
        StorageError: the ledger cannot be written.
    """
    epoch_of = EpochLengths(means.data_root, means.code)
    next_trial = NextTrial.open(means.folder, space, epoch_of, asked, means.examples)
    if means.sharing:
        next_trial.free = functools.partial(is_free, means.storage)
    else:
        # What nobody shares is waited for by nobody.
        next_trial.tree = Tree(lambda recipe: None)
    with _ray(means, space.search), _signals(asked, means.folder):
        if means.sharing:
            # It starts beside the first workers, which need it.
            cluster_register()
        with telling(means.folder):
            _tune(next_trial, space, means, listener or (lambda records, trial: None))
    return next_trial.records


@contextlib.contextmanager
def _ray(means: TrialResources, search: Mapping[str, Any]) -> Iterator[None]:
    """Ray, started on this machine where this process has none, and then shut down."""
    for name, value in SETTINGS.items():
        os.environ.setdefault(name, value)
    address = means.address
    if address is not None:
        check_address(address)
    import ray

    ours = not ray.is_initialized()
    if ours:
        connect(address, means.code)
    try:
        if address is None:
            _check_resources(ray.cluster_resources(), search)  # type: ignore[no-untyped-call]
        yield
    finally:
        if ours:
            disconnect()


def _check_resources(has: Mapping[str, float], search: Mapping[str, Any]) -> None:
    """Refuse resources that this machine does not have; Tune would wait for them forever."""
    problems, workers = [], workers_of(search)
    for kind, key in (("CPU", "cpus_per_trial"), ("GPU", "gpus_per_trial")):
        if search[key] * workers > has.get(kind, 0.0):
            each = f"{search[key]:g} {kind}s" + (f" for each of its {workers} workers" if workers > 1 else "")
            problems.append(
                Problem(f"search.{key}", f"a trial needs {each}, but this machine has {has.get(kind, 0.0):g}")
            )
    if problems:
        raise UserError(problems)


@contextlib.contextmanager
def _signals(asked: StopRequest, folder: StoragePath) -> Iterator[None]:
    """Ctrl-C and SIGTERM ask the search to end: workers store their state. A second Ctrl-C ends at once.

    Entered again once Ray has started, which puts a handler of its own in place.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def note(number: int, frame: FrameType | None) -> None:
        if asked.signal is not None and number == signal.SIGINT:
            raise KeyboardInterrupt
        asked.signal = number
        ask_to_stop(folder)

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _tune(next_trial: NextTrial, space: Space, means: TrialResources, listener: Listener) -> None:
    from ray import tune

    from prune_search.search.ray.tune_searcher import Impatience, LedgerSearcher

    logging.getLogger("ray.tune").setLevel(logging.ERROR)
    search = space.search
    scratch = tempfile.mkdtemp(prefix="prune-search-tune-")
    grids = askable_stops(space, next_trial.tree.epoch_of, means.examples) if means.sharing else {}
    searcher = LedgerSearcher(next_trial, lambda trial: _job(trial, space, means, next_trial.tree, grids), listener)
    try:
        tuner = tune.Tuner(
            tune.with_resources(trainable, functools.partial(_resources, search, _largest_node())),
            tune_config=tune.TuneConfig(
                search_alg=searcher,
                num_samples=-1,
                max_concurrent_trials=search["concurrency"],
                reuse_actors=True,
                trial_dirname_creator=lambda trial: trial.trial_id,
            ),
            run_config=tune.RunConfig(
                name="trials",
                storage_path=scratch,
                failure_config=tune.FailureConfig(max_failures=search["max_failures"]),
                stop=Impatience(searcher, next_trial.stopping),
                verbose=0,
            ),
        )
        tuner.fit()
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    if searcher.error is not None:
        raise searcher.error


def _largest_node() -> float:
    """The CPUs of the node that has the most."""
    import ray

    nodes = ray.nodes()  # type: ignore[no-untyped-call]
    return max((float(node["Resources"].get("CPU", 0.0)) for node in nodes if node["Alive"]), default=0.0)


def _resources(search: Mapping[str, Any], most_cpus: float, config: Mapping[str, Any]) -> PlacementGroupFactory:
    """What a trial takes of a node: its share, or a whole device, which on nodes without any is all CPUs of one."""
    from ray.tune import PlacementGroupFactory

    if workers_of(search) > 1:
        # Its workers are a placement group of their own; whoever starts them only waits.
        return PlacementGroupFactory([{"memory": 1.0}])
    cpus, gpus = search["cpus_per_trial"], search["gpus_per_trial"]
    if config["job"]["alone"]:
        cpus, gpus = (cpus, float(math.ceil(gpus))) if gpus else (max(cpus, most_cpus), 0.0)
    return PlacementGroupFactory([{"CPU": cpus, **({"GPU": gpus} if gpus else {})}])


def _job(trial: TrialRecords, space: Space, means: TrialResources, tree: Tree, grids: Grids) -> TrialJob:
    return TrialJob(
        search=str(means.folder),
        storage=str(means.storage),
        trial=trial.id,
        recipe=trial.recipe,
        data_root=None if means.data_root is None else str(means.data_root.absolute()),
        code=dict(means.code),
        device=means.device,
        # The controls are there to be compared with: nothing stops them.
        block=None if trial.control else dict(space.search),
        heartbeat_s=means.heartbeat_s,
        stops=tree.stops(trial),
        grid=next((grids[v.address] for v in tree.vertices(trial) if v.address in grids), ()),
        sharing=means.sharing,
        alone=trial.alone,
        system_metrics=means.system_metrics,
        asked=metrics_asked(space.search),
        workers=workers_of(space.search),
        each=tuple(space.search[key] for key in ("cpus_per_trial", "gpus_per_trial")),
    )
