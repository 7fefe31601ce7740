"""Runs one trial on a worker and writes its records to the ledger."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import importlib
import os
import socket
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from prune_search.ledger.records import PAUSED, TRIALS, Recorder, read_trial
from prune_search.recipe.problems import Problem, UserError
from prune_search.recipe.recipe import Recipe
from prune_search.recipe.search_block import is_sharded, metrics_asked, workers_of
from prune_search.search.launch_options import LaunchOptions
from prune_search.search.ledger_callbacks import EarlyStopping, LedgerSink, OnStorage, StoppedError
from prune_search.search.ray.heartbeat import Heartbeat
from prune_search.search.ray.kept_workers import wait_for_all, wait_idly
from prune_search.search.ray.memory_metrics import system_figures
from prune_search.search.stop_request import watch_for_stop
from prune_search.storage.files import StorageError
from prune_search.storage.places import place_of
from prune_search.trial.errors import TrialError

if TYPE_CHECKING:
    from pathlib import Path

    from torch import device

    from prune_search.search.given_code import GivenCode
    from prune_search.tasks.workers import Workers
    from prune_search.training.state_store import SegmentClaims, Steps
    from prune_search.trial.data_and_network import Code, TrialData
    from prune_search.trial.result import Result
    from prune_search.trial.setup import TrialSetup

# Where the states of trials lie that share nothing.
UNSHARED = "unshared"
# The kind of a trial's error (see `trial.errors.TrialError`), and how an attempt ends that meets it.
OOM = "oom"
# In the record that an attempt of several workers has started: Ray's id of what it holds for them, in hex.
PLACES = "placement_group"


@dataclass(frozen=True)
class TrialJob:
    """What a worker needs to run a trial; plain data, so that it travels in Tune's config.

    Attributes:
        folder: of the search.
        trial: the trial's id.
        recipe: canonical.
        search: the search block.
        options: as the search was launched.
        stops: steps of trajectory 1 that proposed trials ask for; all are stored.
        grid: steps of it that trials to come can ask for; as many are stored as are affordable.
        alone: whether it has a whole device, after its share of one had too little memory.
        control: whether it is there to be compared with, so that nothing may stop it.
        kept: name of the search's workers in the cluster's register; empty where they are not kept.
        wait_for: how many workers have to have started before this trial ends; 0 where it is none of the first.
    """

    folder: str
    trial: str
    recipe: Mapping[str, Any]
    search: Mapping[str, Any]
    options: LaunchOptions
    stops: tuple[int, ...] = ()
    grid: tuple[int, ...] = ()
    alone: bool = False
    control: bool = False
    kept: str = ""
    wait_for: int = 0

    def as_config(self) -> dict[str, Any]:
        """As Tune's config."""
        return {"job": {**vars(self), "options": self.options.as_plain()}}

    @classmethod
    def of_config(cls, config: Mapping[str, Any], given: GivenCode | None = None) -> TrialJob:
        """From Tune's config and the functions that travel beside it."""
        job = config["job"]
        given = None if given is None else given.arrive()
        return cls(**{**job, "options": LaunchOptions(**job["options"], given=given)})


def run_job(
    job: TrialJob,
    claims: SegmentClaims | None = None,
    node: str = "",
    workers: Workers | None = None,
    places: str = "",
) -> str:
    """Run a trial to its end, and write how it ended.

    What a retry cannot cure (a NaN loss, a wrong shape, an error in the user's code) ends the trial as failed; where
    the process dies, or its records cannot be written, Tune starts the trial again.

    Args:
        job: the trial.
        claims: who trains which segment; None where nobody else trains on the storage.
        node: Ray's id of the node that this is, for the record.
        workers: that run it together, of which this is the first; None where this process runs it alone.
        places: Ray's id of the placement group of several workers, for the record.

    Returns:
        completed, stopped, paused, failed; preempted where the search was asked to stop; lacking where somebody else
        trains what it needs, and oom where its share of a device has too little memory, so that it is rescheduled.

    Raises:
        StorageError: a record could not be written.
        WorkerLostError: a worker that trained along is gone.
    """
    folder = place_of(job.folder)
    before = read_trial(folder / TRIALS / job.trial)
    if before.ended is not None:
        # By a worker that outlived its driver, after the new one had read the ledger.
        return str(before.ended.data["status"])
    # Seconds in a new process, and no sign of one that hangs: the heartbeat begins after it.
    importlib.import_module("prune_search.search.ray.warm_up")
    from prune_search.training.state_store import Steps

    recorder = Recorder(folder, job.trial, len(before.attempts) + 1)
    held = {PLACES: places} if places else {}
    recorder.write("started", {"host": socket.gethostname(), "pid": os.getpid(), "node": node, **held})
    begun = time.monotonic()
    steps, heartbeat = Steps(), Heartbeat(job.options.heartbeat_s)
    sink = LedgerSink(recorder, _early_stopping(job), job.recipe["rounds"], steps, heartbeat)
    end = _ended(_Course(job, sink, steps, heartbeat, claims, workers))
    _give_back()
    if end.comes_again:
        return end.status
    sink.tell()
    recorder.write(
        "ended",
        {
            "status": end.status,
            "result": None if end.result is None else end.result.as_data(),
            "error": end.error,
            **({} if end.paused is None else {PAUSED: end.paused}),
            **sink.steps(end.result),
            "seconds": time.monotonic() - begun,
            "training_seconds": sink.training_s,
        },
    )
    return end.status


def _give_back() -> None:
    """Give the memory of a trial that is over back to the system.

    Its rounds and segments know each other: Python would keep them, and with them several copies of the network, until
    it has seen enough other objects, which may be many trials later. And Tune runs each trial in a thread of its own,
    for which glibc keeps what was freed, in up to eight places per processor.
    """
    gc.collect()
    if sys.platform == "linux" and hasattr(libc := ctypes.CDLL(None), "malloc_trim"):
        libc.malloc_trim(0)


@dataclass(frozen=True)
class _End:
    """How an attempt ended.

    Attributes:
        status: as `run_job` returns it.
        result: of a trial that completed.
        error: kind and message, of one that failed.
        paused: what was measured where it rests, of one that does.
        comes_again: whether the attempt alone is over, and not the trial.
    """

    status: str
    result: Result | None = None
    error: Mapping[str, str] | None = None
    paused: Mapping[str, Any] | None = None
    comes_again: bool = False


@dataclass(frozen=True)
class _Course:
    """An attempt of a trial.

    Attributes:
        job: the trial.
        sink: who is told how it goes.
        steps: its account.
        heartbeat: beats until the trial is over.
        claims: as `run_job` takes them.
        workers: the same.
    """

    job: TrialJob
    sink: LedgerSink
    steps: Steps
    heartbeat: Heartbeat
    claims: SegmentClaims | None
    workers: Workers | None


def _ended(course: _Course) -> _End:
    """Make an attempt, and tell how it ended."""
    from prune_search.tasks.workers import WorkerLostError
    from prune_search.training.state_store import LackingError, PausedError, PreemptedError

    try:
        with contextlib.closing(course.heartbeat), _memory():
            return _End("completed", _run(course))
    except PausedError as rest:
        return _End(PAUSED, paused=rest.at)
    except PreemptedError:
        course.sink.tell()
        return _End("preempted", comes_again=True)
    except LackingError as lack:
        course.sink.lacking(lack.address, lack.step)
        return _End("lacking", comes_again=True)
    except (StorageError, WorkerLostError):
        raise
    except StoppedError:
        return _End("stopped")
    except TrialError as failure:
        if failure.kind == OOM and not course.job.alone:
            course.sink.out_of_memory()
            return _End(OOM, comes_again=True)
        return _failed(failure.kind, str(failure))
    except UserError as failure:
        return _failed("user", "; ".join(str(problem) for problem in failure.problems))
    except Exception as failure:  # noqa: BLE001 - whatever the trial's code raises fails this trial, and no other
        return _failed(type(failure).__name__, str(failure)[:2000])


def _failed(kind: str, message: str) -> _End:
    return _End("failed", error={"kind": kind, "message": message})


@contextlib.contextmanager
def _memory() -> Iterator[None]:
    """A device out of memory ends the trial wherever it is met, and what it held there is free for the next one."""
    import torch

    try:
        yield
    except torch.OutOfMemoryError as error:
        raise TrialError(OOM, f"the device is out of memory: {str(error).splitlines()[0]}") from None
    finally:
        if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
            torch.cuda.empty_cache()


def setup_of(job: TrialJob, device: device, workers: Workers | None = None) -> TrialSetup:
    """A trial's recipe with its data and its network.

    Args:
        job: the trial.
        device: of this worker.
        workers: that run it together; None: this process alone.

    Raises:
        UserError: something does not fit.
    """
    from prune_search.tasks.workers import ALONE
    from prune_search.trial.setup import prepare

    recipe = Recipe.from_canonical(job.recipe)
    most = workers_of(job.search).most
    if (batch := recipe.train.batch) < most:
        raise UserError([Problem("train.batch", f"{batch} examples cannot be split among {most} workers")])
    root, code = job.options.data_folder, job.options.user_code()
    data, declared = _data(recipe, root, code, device), workers_of(job.search).declared
    sharded = is_sharded(job.search)
    return prepare(recipe, device, root, code, None, data, workers or ALONE, declared, sharded)


def _run(course: _Course) -> Result:
    from prune_search.training.environment import pick_device
    from prune_search.trial.callbacks import Guarded
    from prune_search.trial.run import Sharing, run_trial

    job, sink = course.job, course.sink
    options, folder = job.options, place_of(job.folder)
    device = pick_device(options.device)
    if options.system_metrics:
        sink.system = system_figures(device)
    setup = setup_of(job, device, course.workers)
    sharing = Sharing(course.claims, tuple(job.stops), tuple(job.grid), course.steps)
    storage = options.storage_folder if options.sharing else folder / UNSHARED / job.trial
    guarded = Guarded(sink, watch_for_stop(folder))
    # A pass is a sign of life too: scores, costs and evaluations can take longer than a step may.
    sign = setup.model.register_forward_hook(lambda *_: course.heartbeat())
    try:
        return run_trial(setup, storage, guarded, test=False, sharing=sharing, asked=metrics_asked(job.search))
    finally:
        sign.remove()


def run_along(job: TrialJob, workers: Workers) -> None:
    """Run a trial as one of several workers that is not the first: nothing is read or written.

    Raises:
        EndedError: the first worker ended the attempt.
        TrialError, UserError: as on the first worker, which writes it down.
        WorkerLostError: another worker is gone.
    """
    from prune_search.training.environment import pick_device
    from prune_search.trial.run import Sharing, run_trial

    with _memory():
        setup = setup_of(job, pick_device(job.options.device), workers)
        sharing = Sharing(stops=tuple(job.stops), grid=tuple(job.grid))
        run_trial(setup, None, None, test=False, sharing=sharing, asked=metrics_asked(job.search))


class _LastData:
    """The data set that this process read last, on its device: most trials of a search share it."""

    key: tuple[Any, ...] | None = None
    data: TrialData | None = None


def _data(recipe: Recipe, root: Path | None, code: Code, device: device) -> TrialData:
    from prune_search.trial.data_and_network import read_data

    key = (repr(recipe.task.data), root, code.data, device)
    if _LastData.key != key or _LastData.data is None:
        data = read_data(recipe, root, code)
        # Its bytes are gone through here, where they are read, and not by every trial.
        _ = data.digest
        _LastData.data = data.to(device)
        _LastData.key = key
    return _LastData.data


def _early_stopping(job: TrialJob) -> EarlyStopping | None:
    # The controls are there to be compared with: nothing stops them.
    if job.control or job.search["scheduler"] == "none":
        return None
    return EarlyStopping(job.trial, job.search["scheduler"], OnStorage(place_of(job.folder), job.search))


def trainable(config: Mapping[str, Any], given: GivenCode | None = None) -> None:
    """The function that Ray Tune runs for a trial of one worker; one call is one attempt."""
    from ray import tune

    from prune_search.search.ray.claims import ask_roll

    if "idle" in config:
        wait_idly(config["idle"], ask_roll)
        tune.report({"status": "idle"})
        return
    job = TrialJob.of_config(config, given)
    status = attempt(job)
    if job.wait_for:
        wait_for_all(job.kept, job.wait_for, ask_roll)
    tune.report({"status": status})


def attempt(job: TrialJob, workers: Workers | None = None, places: str = "") -> str:
    """One attempt of a trial in this process of Ray's; see `run_job`."""
    import ray

    from prune_search.search.ray.claims import ClusterClaims
    from prune_search.storage.cache import CACHE, WORKER_BYTES

    # Trial after trial in this process reads the states of the same chains.
    CACHE.allow(WORKER_BYTES)
    if not gc.get_freeze_count():
        # What is loaded before the first trial stays, so that the garbage of every trial is found in milliseconds.
        importlib.import_module("prune_search.search.ray.warm_up")
        gc.collect()
        gc.freeze()
    claims = ClusterClaims(job.options.storage_folder) if job.options.sharing else None
    try:
        return run_job(job, claims, ray.get_runtime_context().get_node_id(), workers, places)
    finally:
        if claims is not None:
            claims.close()
