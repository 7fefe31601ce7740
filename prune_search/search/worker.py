"""What runs on a worker: one trial, its records written to the ledger.

A worker decides for itself whether to stop (a judge is a function of the records that lie on the storage), so that no
decision waits for the driver, and a resumed search decides alike.
"""

from __future__ import annotations

import contextlib
import faulthandler
import importlib
import os
import socket
import sys
import time
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prune_search.recipe.problems import UserError
from prune_search.recipe.recipe import Recipe
from prune_search.search.schedulers import Maturity, Verdicts, make_judge
from prune_search.search.stop import watch_for_stop
from prune_search.training.atomic import StorageError
from prune_search.training.places import Place, place_of
from prune_search.trial.errors import TrialError
from prune_search.trial.follow import Follower
from prune_search.trial.records import TRIALS, Progress, Recorder, read_trial

if TYPE_CHECKING:
    from torch import Tensor, device

    from prune_search.tasks.data import DataSet
    from prune_search.training.stretch import Claims, Steps
    from prune_search.trial.bench import Code
    from prune_search.trial.result import Result, RoundResult
    from prune_search.trial.sink import Observation

# Where the states of trials lie that share nothing.
UNSHARED = "unshared"
MOST_OBSERVATIONS = 25
PROGRESS_EVERY_S = 1.0
# A data set can be large, and user code slow to import.
START_S = 300.0


@dataclass(frozen=True)
class Job:
    """What a worker needs to run a trial; plain data, so that it travels in Tune's config.

    Attributes:
        search: folder of the search.
        storage: folder of the stored states.
        trial: the trial's id.
        recipe: canonical.
        data_root: folder of the data sets' files, or None.
        code: the user's own model and data by name.
        device: ``auto``, ``cpu`` …
        block: the search block, with its scheduler; None where nothing may stop the trial.
        heartbeat_s: a worker that makes no step for so long ends itself, and is started again.
        stops: steps of trajectory 1 that proposed trials ask for; all are stored.
        grid: steps of it that trials to come can ask for; as many are stored as are affordable.
        sharing: whether what is trained is shared with other trials.
        asked: metrics that the search names.
    """

    search: str
    storage: str
    trial: str
    recipe: Mapping[str, Any]
    data_root: str | None
    code: Mapping[str, str | None]
    device: str
    block: Mapping[str, Any] | None
    heartbeat_s: float
    stops: tuple[int, ...] = ()
    grid: tuple[int, ...] = ()
    sharing: bool = True
    asked: tuple[str, ...] = ()

    def as_config(self) -> dict[str, Any]:
        """As Tune's config."""
        return {"job": dict(vars(self))}


class _Stopped(Exception):
    """The judge stopped the trial."""


@dataclass
class Court:
    """The scheduler's judge over one trial: it reads the records of all trials from the storage.

    Attributes:
        search: folder of the search.
        trial: the trial's id.
        scheduler: canonical.
        block: the search block.
        epoch: iterations in an epoch, once known.
    """

    search: Place
    trial: str
    scheduler: Any
    block: Mapping[str, Any]
    epoch: int = 1
    wanted: frozenset[int] = frozenset()

    def measure_at(self, total: int, epoch: int) -> Collection[int]:
        """Where the judge wants the network measured, in steps since the asked sparsity was reached."""
        self.epoch = epoch
        self.wanted = frozenset(make_judge(self.scheduler, epoch).measure_at(total))
        return self.wanted

    def stops(self, maturity: Maturity) -> bool:
        """Whether the trial is stopped at a measurement that it has just written."""
        follower, verdicts = _verdicts(self.search, self.block)
        records, changed = follower.read()
        for identity in changed & set(records.trials):
            verdicts.places.update(records.trials[identity])
        return verdicts.stops(self.trial, maturity, self.epoch, records.dense)


_VERDICTS: dict[Place, tuple[Follower, Verdicts]] = {}


def _verdicts(search: Place, block: Mapping[str, Any]) -> tuple[Follower, Verdicts]:
    """What this process has read of a search: it runs one trial after the other, and reads no record twice."""
    if search not in _VERDICTS or _VERDICTS[search][1].block != block:
        _VERDICTS.clear()
        _VERDICTS[search] = (Follower(search), Verdicts(block))
    return _VERDICTS[search]


class LedgerSink:
    """Writes what a trial reports to the ledger.

    Args:
        recorder: of this attempt.
        court: says where to measure, and whether the trial is stopped there; None where nothing is stopped.
        heartbeat_s: see `Job`.
        rounds: of the trial; nothing is stopped after the last.
        steps: the trial's account, which training writes up.
    """

    def __init__(self, recorder: Recorder, court: Court | None, heartbeat_s: float, rounds: int, steps: Steps) -> None:
        self.rounds = rounds
        self.recorder = recorder
        self.account = steps
        self.needed = self.shared = 0
        self.places: dict[str, int] = {}
        self.lacks: tuple[str, int] | None = None
        self.training_s = 0.0
        self._mark = time.monotonic()
        self.court = court
        self.heartbeat_s = heartbeat_s
        self.beaten = self.told = 0.0
        self._wait(max(heartbeat_s, START_S))

    def beat(self) -> None:
        """A sign of life: without the next one in time the process ends itself, even where Python hangs."""
        now = time.monotonic()
        if now - self.beaten > min(1.0, self.heartbeat_s / 4):
            self.beaten = now
            self._wait(self.heartbeat_s)

    def _wait(self, seconds: float) -> None:
        # Ray replaces sys.stderr by an object without a file number.
        faulthandler.dump_traceback_later(seconds, exit=True, file=sys.__stderr__ or 2)

    def started(self, key: str, total: int) -> None:
        """The data are read, and the trial begins."""
        self.beat()

    def stage(self, name: str, total: int) -> None:
        """A stretch begins."""
        self.beat()
        self._mark = time.monotonic()

    def step(self, step: int, total: int, loss: Tensor) -> None:
        """A step is done."""
        self.training_s += time.monotonic() - self._mark
        self.beat()
        if time.monotonic() - self.told > PROGRESS_EVERY_S:
            self.tell()
        self._mark = time.monotonic()

    def reached(self, place: str, step: int) -> None:
        """A state is there that others can ask for, and may wait for."""
        if step > self.places.get(place, -1):
            self.places[place] = step
            self.shared = self.account.trained
            self.tell()

    def lacking(self, address: str, step: int) -> None:
        """The trial waits for what somebody else trains."""
        self.lacks = (address, step)
        self.tell()

    def tell(self) -> None:
        """Write down how far the attempt is."""
        self.told = time.monotonic()
        done = self.account
        self.recorder.progress(
            Progress(
                done.trained, done.replayed, done.repeated, done.stored, self.shared, dict(self.places), self.lacks
            )
        )

    def observe_at(self, total: int, epoch: int, settled: int) -> Collection[int]:
        """Once an epoch, at most so many times, and where the judge wants it."""
        every = epoch * max(1, -(-total // epoch // MOST_OBSERVATIONS))
        wanted = set(range(every, total, every))
        if self.court is not None:
            wanted |= {settled + step for step in self.court.measure_at(total - settled, epoch)}
        return wanted

    def observed(self, seen: Observation) -> None:
        """A measurement in the middle of a retraining."""
        self._measured(seen.round_number, seen.mature, seen.steps_trained, seen.metrics, seen.sparsity)
        # The ledger is read where the judge has something to say, and nowhere else.
        if self.court is not None and seen.mature in self.court.wanted and self.court.stops((None, seen.mature)):
            raise _Stopped

    def round_done(self, result: RoundResult) -> None:
        """A measurement at the end of a round."""
        reached = result.receipt.reached
        self._measured(result.number, None, int(result.metrics["steps_trained"]), result.metrics, reached)
        if self.court is not None and result.number < self.rounds and self.court.stops((reached, None)):
            raise _Stopped

    def _measured(self, number: int, step: int | None, steps: int, metrics: Mapping[str, Any], sparsity: float) -> None:
        from prune_search.trial.result import finite

        data = {"round": number, "step": step, "steps_trained": steps, "metrics": finite(metrics), "sparsity": sparsity}
        self.recorder.write("measured", data)
        self.needed = steps
        self.beat()
        self._mark = time.monotonic()

    def steps(self, result: Result | None) -> dict[str, int]:
        """What was trained, and what stored states spared; of a trial without a result, up to its last measurement."""
        trained = self.account.trained
        saved = result.steps[1] if result is not None else max(0, self.needed - trained)
        return {"steps_trained": trained, "steps_saved": saved}


def run_job(job: Job, claims: Claims | None = None) -> str:
    """Run a trial to its end, and write how it ended.

    What a retry cannot cure (a NaN loss, a wrong shape, an error in the user's code) ends the trial as failed; where
    the process dies, or its records cannot be written, Tune starts the trial again.

    Args:
        job: the trial.
        claims: who trains which stretch; None where nobody else trains on the storage.

    Returns:
        completed, stopped, failed; preempted where the search was asked to stop; lacking where somebody else trains
        what it needs, so that it comes again later.

    Raises:
        StorageError: a record could not be written.
    """
    folder = place_of(job.search)
    before = read_trial(folder / TRIALS / job.trial)
    if before.ended is not None:
        # By a worker that outlived its driver, after the new one had read the ledger.
        return str(before.ended.data["status"])
    # Seconds in a new process, and no sign of one that hangs: the heartbeat begins after it.
    importlib.import_module("prune_search.search.warm")
    from prune_search.training.loop import PreemptedError
    from prune_search.training.stretch import LackingError, Steps

    recorder = Recorder(folder, job.trial, len(before.attempts) + 1)
    recorder.write("started", {"host": socket.gethostname(), "pid": os.getpid(), "node": ""})
    begun = time.monotonic()
    result: Result | None = None
    error: dict[str, str] | None = None
    status = "completed"
    sink = LedgerSink(recorder, _court(job), job.heartbeat_s, job.recipe["rounds"], Steps())
    try:
        with _watchdog():
            result = _run(job, sink, claims)
    except PreemptedError:
        sink.tell()
        return "preempted"
    except LackingError as lack:
        sink.lacking(lack.address, lack.step)
        return "lacking"
    except StorageError:
        raise
    except _Stopped:
        status = "stopped"
    except TrialError as failure:
        status, error = "failed", {"kind": failure.kind, "message": str(failure)}
    except UserError as failure:
        status, error = "failed", {"kind": "user", "message": "; ".join(str(problem) for problem in failure.problems)}
    except Exception as failure:  # noqa: BLE001 - whatever the trial's code raises fails this trial, and no other
        status, error = "failed", {"kind": type(failure).__name__, "message": str(failure)[:2000]}
    sink.tell()
    recorder.write(
        "ended",
        {
            "status": status,
            "result": None if result is None else result.as_data(),
            "error": error,
            **sink.steps(result),
            "seconds": time.monotonic() - begun,
            "training_seconds": sink.training_s,
        },
    )
    return status


@contextlib.contextmanager
def _watchdog() -> Iterator[None]:
    try:
        yield
    finally:
        faulthandler.cancel_dump_traceback_later()


def _run(job: Job, sink: LedgerSink, claims: Claims | None) -> Result:
    from prune_search.recipe.schema import BLOCKS
    from prune_search.training.environment import pick_device
    from prune_search.trial.bench import Code, prepare
    from prune_search.trial.run import Sharing, run_bench
    from prune_search.trial.sink import Guarded

    recipe = Recipe.read({key: job.recipe[key] for key in BLOCKS})
    root = Path(job.data_root) if job.data_root else None
    code = Code(job.code.get("model"), job.code.get("data"))
    device = pick_device(job.device)
    bench = prepare(recipe, device, root, code, data=_data(recipe, root, code, device))
    sharing = Sharing(claims, tuple(job.stops), tuple(job.grid), sink.account)
    storage = place_of(job.storage) if job.sharing else place_of(job.search) / UNSHARED / job.trial
    guarded = Guarded(sink, watch_for_stop(place_of(job.search)))
    return run_bench(bench, storage, guarded, test=False, sharing=sharing, asked=job.asked)


class _LastData:
    """The data set that this process read last, on its device: most trials of a search share it."""

    key: tuple[Any, ...] | None = None
    data: DataSet | None = None


def _data(recipe: Recipe, root: Path | None, code: Code, device: device) -> DataSet:
    from prune_search.trial.bench import read_data

    key = (repr(recipe.blocks["task"]["data"]), root, code.data, device)
    if _LastData.key != key or _LastData.data is None:
        data = read_data(recipe, root, code)
        # Its bytes are gone through here, where they are read, and not by every trial.
        _ = data.digest
        _LastData.data = data.to(device)
        _LastData.key = key
    return _LastData.data


def _court(job: Job) -> Court | None:
    if job.block is None or job.block["scheduler"] == "none":
        return None
    return Court(place_of(job.search), job.trial, job.block["scheduler"], job.block)


def trainable(config: Mapping[str, Any]) -> None:
    """The function that Ray Tune runs; one call is one attempt of one trial."""
    from ray import tune

    from prune_search.search.claims import ClusterClaims

    job = Job(**config["job"])
    claims = ClusterClaims(place_of(job.storage)) if job.sharing else None
    try:
        status = run_job(job, claims)
    finally:
        if claims is not None:
            claims.close()
    tune.report({"status": status})
