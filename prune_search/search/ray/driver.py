"""Runs the next trials with Ray Tune. Tune's own state is never read back; the ledger is."""

from __future__ import annotations

import contextlib
import functools
import logging
import math
import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from prune_search.ledger.records import SearchRecords, TrialRecords, read_search
from prune_search.recipe.problems import Problem, UserError, shown
from prune_search.recipe.search_block import workers_of
from prune_search.recipe.space import Space
from prune_search.search.epochs import EpochLengths
from prune_search.search.given_code import GivenCode
from prune_search.search.launch_options import LaunchOptions
from prune_search.search.next_trial import Listener, NextTrial
from prune_search.search.ray.address import check_address
from prune_search.search.ray.claims import cluster_register, is_free
from prune_search.search.ray.cluster_reporter import telling
from prune_search.search.ray.connection import connect, disconnect
from prune_search.search.ray.data_parallel import trainable_together
from prune_search.search.ray.kept_workers import KeptWorkers
from prune_search.search.ray.worker import TrialJob, trainable
from prune_search.search.shared_tree import Tree, askable_stops
from prune_search.search.stop_request import StopRequest, ask_to_stop, watch_signals
from prune_search.storage.places import StoragePath

if TYPE_CHECKING:
    from ray.tune import PlacementGroupFactory

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

_log = logging.getLogger("prune_search")

Grids = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True)
class Launched:
    """A search that is run.

    Attributes:
        folder: of the search.
        space: what is searched; its search block says how.
        options: how it was launched.
        examples: size of the training set; 0 where it is not known.
    """

    folder: StoragePath
    space: Space
    options: LaunchOptions
    examples: int = 0


def check_given(given: GivenCode) -> None:
    """Find out before anything is created whether functions can travel to the workers.

    Raises:
        UserError: one of them cannot be pickled, which every trial would fail with.
    """
    from ray import cloudpickle

    problems = []
    for key, function in given.functions.items():
        try:
            cloudpickle.dumps(function)  # type: ignore[no-untyped-call]
        except Exception as error:  # noqa: BLE001 - whatever the user's objects raise when they are pickled
            why = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
            name = f"{getattr(function, '__module__', '')}:{getattr(function, '__qualname__', shown(function))}"
            text = f"{name} cannot be sent to the workers ({why}): make it a function of a module"
            problems.append(Problem(f"task.{key}", text))
    if problems:
        raise UserError(problems)


def run_search(launched: Launched, asked: StopRequest, listener: Listener | None = None) -> SearchRecords:
    """Run a search from its ledger to its end, or until it is asked to stop.

    Where a node runs low on memory, Ray ends processes there, and Tune then ends as well. The search goes on from its
    ledger, as after any death of its driver.

    Args:
        launched: the search.
        asked: from `stop_request.holding`.
        listener: told the records whenever a trial was started or ended.

    Returns:
        The records.

    Raises:
        UserError: a trial needs more than this machine has, a thousand draws in a row were invalid, or processes were
            ended again and again and no trial with them.
        StorageError: the ledger cannot be written.
    """
    ended, times = -1, 0
    while True:
        try:
            return _run_once(launched, asked, listener)
        except RuntimeError as error:
            if (why := _processes_ended(error)) is None or asked():
                raise
            before, ended = ended, sum(one.ended is not None for one in read_search(launched.folder).trials.values())
            times = times + 1 if ended == before else 1
            if times > launched.space.search["max_failures"]:
                what = "lower search.concurrency or what a trial holds (train.batch, the network), or add memory"
                text = f"{why}, {times} times in a row with no trial ended: {what}, then resume the search"
                raise UserError([Problem("search", text)]) from None
            _log.warning("%s; the search goes on from its records", why)


def _processes_ended(error: RuntimeError) -> str | None:
    """What Ray says of processes that it ended itself, of which Tune knows nothing; None for any other error."""
    from ray.exceptions import OutOfMemoryError, RayError

    cause = error.__cause__
    if isinstance(cause, OutOfMemoryError):
        return "a node ran low on memory, and Ray ended processes on it"
    return f"Ray ended a process ({type(cause).__name__})" if isinstance(cause, RayError) else None


def _run_once(launched: Launched, asked: StopRequest, listener: Listener | None) -> SearchRecords:
    folder, options = launched.folder, launched.options
    epoch_of = EpochLengths(options.data_folder, options.user_code())
    next_trial = NextTrial.open(folder, launched.space, epoch_of, asked, launched.examples)
    if options.sharing:
        next_trial.free = functools.partial(is_free, options.storage_folder)
    else:
        # What nobody shares is waited for by nobody.
        next_trial.tree = Tree(lambda recipe: None)
    # Once Ray has started, which puts handlers of its own in place, signals are watched anew.
    with _ray(options, next_trial.search), watch_signals(asked, lambda: ask_to_stop(folder)):
        if options.sharing:
            # It starts beside the first workers, which need it.
            cluster_register()
        with telling(folder):
            _tune(next_trial, launched, listener or (lambda records, trial: None))
    return next_trial.records


@contextlib.contextmanager
def _ray(options: LaunchOptions, search: Mapping[str, Any]) -> Iterator[None]:
    """Ray, started on this machine where this process has none, and then shut down."""
    for name, value in SETTINGS.items():
        os.environ.setdefault(name, value)
    address = options.address
    if address is not None:
        check_address(address)
    import ray

    ours = not ray.is_initialized()
    if ours:
        connect(address, options.code)
    try:
        if address is None:
            _check_resources(ray.cluster_resources(), search)  # type: ignore[no-untyped-call]
        yield
    finally:
        if ours:
            disconnect()


def _check_resources(has: Mapping[str, float], search: Mapping[str, Any]) -> None:
    """Refuse resources that this machine does not have; Tune would wait for them forever."""
    problems, workers = [], workers_of(search).least
    for kind, key in (("CPU", "cpus_per_trial"), ("GPU", "gpus_per_trial")):
        if search[key] * workers > has.get(kind, 0.0):
            each = f"{search[key]:g} {kind}s" + (f" for each of its {workers} workers" if workers > 1 else "")
            problems.append(
                Problem(f"search.{key}", f"a trial needs {each}, but this machine has {has.get(kind, 0.0):g}")
            )
    if problems:
        raise UserError(problems)


def _tune(next_trial: NextTrial, launched: Launched, listener: Listener) -> None:
    from ray import tune

    from prune_search.search.ray.tune_searcher import Impatience, LedgerSearcher

    logging.getLogger("ray.tune").setLevel(logging.ERROR)
    search, tree = next_trial.search, next_trial.tree
    scratch = tempfile.mkdtemp(prefix="prune-search-tune-")
    sharing = launched.options.sharing
    run: Any = trainable_together if workers_of(search).several else trainable
    if launched.options.given is not None:
        run = tune.with_parameters(run, given=launched.options.given)
    grids = askable_stops(launched.space, tree.epoch_of, launched.examples) if sharing else {}
    workers = _kept_workers(search) if sharing else None
    searcher = LedgerSearcher(next_trial, lambda trial: _job(trial, launched, tree, grids), listener, workers)
    try:
        tuner = tune.Tuner(
            tune.with_resources(run, functools.partial(_resources, search, _largest_node())),
            tune_config=tune.TuneConfig(
                search_alg=searcher,
                num_samples=-1,
                # The searcher itself counts trials; idle jobs come beside them.
                max_concurrent_trials=2 * search["concurrency"],
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


def _kept_workers(search: Mapping[str, Any]) -> KeptWorkers | None:
    """As many workers as the search has use and room for; None where that is one, or a trial has several itself."""
    import ray

    has = ray.cluster_resources()  # type: ignore[no-untyped-call]
    needs = {kind: search[key] for kind, key in (("CPU", "cpus_per_trial"), ("GPU", "gpus_per_trial")) if search[key]}
    room = min((int(has.get(kind, 0.0) / each) for kind, each in needs.items()), default=1)
    size = min(search["concurrency"], search["trials"], room)
    if size < 2 or workers_of(search).several:
        return None
    register = cluster_register()

    def tell(method: str, *words: Any) -> None:
        register.roll.remote(method, *words)

    return KeptWorkers(secrets.token_hex(8), size, tell)


def _largest_node() -> float:
    """The CPUs of the node that has the most."""
    import ray

    nodes = ray.nodes()  # type: ignore[no-untyped-call]
    return max((float(node["Resources"].get("CPU", 0.0)) for node in nodes if node["Alive"]), default=0.0)


def _resources(search: Mapping[str, Any], most_cpus: float, config: Mapping[str, Any]) -> PlacementGroupFactory:
    """What a trial takes of a node: its share, or a whole device, which on nodes without any is all CPUs of one."""
    from ray.tune import PlacementGroupFactory

    if workers_of(search).several:
        # Its workers are a placement group of their own; whoever starts them only waits.
        return PlacementGroupFactory([{"memory": 1.0}])
    cpus, gpus = search["cpus_per_trial"], search["gpus_per_trial"]
    if "job" in config and config["job"]["alone"]:
        cpus, gpus = (cpus, float(math.ceil(gpus))) if gpus else (max(cpus, most_cpus), 0.0)
    return PlacementGroupFactory([{"CPU": cpus, **({"GPU": gpus} if gpus else {})}])


def _job(trial: TrialRecords, launched: Launched, tree: Tree, grids: Grids) -> TrialJob:
    return TrialJob(
        folder=str(launched.folder),
        trial=trial.id,
        recipe=trial.recipe,
        search=dict(launched.space.search),
        options=launched.options,
        stops=tree.stops(trial),
        grid=next((grids[v.address] for v in tree.vertices(trial) if v.address in grids), ()),
        alone=trial.alone,
        control=trial.control,
    )
