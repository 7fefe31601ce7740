"""Callbacks that record a trial's reports in the ledger, and ask a stopping rule whether it continues.

Trained and simulated trials report alike. A worker decides for itself whether to stop (a stopping rule is a function of
the records that lie on the storage), so that no decision waits for the driver, and a resumed search decides alike.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol

from prune_search.ledger.progress import Progress
from prune_search.ledger.ranking import Dense
from prune_search.ledger.reader import Follower
from prune_search.ledger.records import Kind, Record
from prune_search.search.rungs import Mark, Maturity, mark_fields
from prune_search.search.schedulers import Decisions, make_promoting_rule, make_stopping_rule
from prune_search.storage.places import StoragePath
from prune_search.training.state_store import PausedError
from prune_search.trial.result import finite

if TYPE_CHECKING:
    from torch import Tensor

    from prune_search.trial.callbacks import Observation
    from prune_search.trial.result import Result, RoundResult

MAX_OBSERVATIONS = 25
PROGRESS_EVERY_S = 1.0


class StoppedError(Exception):
    """The stopping rule stopped the trial."""


class Writer(Protocol):
    """Who writes the records of an attempt: a `ledger.records.Recorder`."""

    def write(self, kind: Kind, data: Mapping[str, Any]) -> Record:
        """Store one record."""

    def progress(self, progress: Progress) -> None:
        """Store how far the attempt is."""


class Account(Protocol):
    """What was trained, in iterations; see `training.state_store.Steps`."""

    @property
    def trained(self) -> int: ...
    @property
    def replayed(self) -> int: ...
    @property
    def repeated(self) -> int: ...
    @property
    def stored(self) -> int: ...


# The decisions over a search, with all records that were read by now, and the metrics of its dense network.
Standing = Callable[[], tuple[Decisions, Dense]]


@dataclass
class EarlyStopping:
    """The scheduler's stopping rule over one trial.

    Attributes:
        trial: the trial's id.
        scheduler: canonical.
        standing: asked where the trial may be stopped, and nowhere else.
        epoch: iterations in an epoch, once known.
        wanted: the steps at which the rule wants the network measured, and their marks.
    """

    trial: str
    scheduler: Any
    standing: Standing
    epoch: int = 1
    wanted: Mapping[int, Mark] = field(default_factory=dict)

    def measure_at(self, total: int, epoch: int) -> Collection[int]:
        """Where the rule wants the network measured, in steps since the asked sparsity was reached."""
        self.epoch = epoch
        self.wanted = make_stopping_rule(self.scheduler, epoch).measure_at(total)
        return self.wanted.keys()

    def stops(self, maturity: Maturity) -> bool:
        """Whether the trial is stopped at a measurement that it has just written."""
        decisions, dense = self.standing()
        return decisions.stops(self.trial, maturity, self.epoch, dense)

    @cached_property
    def pauses(self) -> bool:
        """Whether a trial that is stopped can go on later."""
        return make_promoting_rule(self.scheduler) is not None


@dataclass(frozen=True)
class OnStorage:
    """A `Standing` that reads the records of all trials from the storage.

    Attributes:
        search: folder of the search.
        block: the search block.
    """

    search: StoragePath
    block: Mapping[str, Any]

    def __call__(self) -> tuple[Decisions, Dense]:
        """What the records say now."""
        follower, decisions = _followed(self.search, self.block)
        records, changed = follower.read()
        for identity in changed & set(records.trials):
            decisions.places.update(records.trials[identity])
        return decisions, records.dense


_FOLLOWED: dict[StoragePath, tuple[Follower, Decisions]] = {}


def _followed(search: StoragePath, block: Mapping[str, Any]) -> tuple[Follower, Decisions]:
    """What this process has read of a search: it runs one trial after the other, and reads no record twice."""
    if search not in _FOLLOWED or _FOLLOWED[search][1].block != block:
        _FOLLOWED.clear()
        _FOLLOWED[search] = (Follower(search), Decisions(block))
    return _FOLLOWED[search]


def _nothing() -> Mapping[str, float]:
    return {}


class LedgerSink:
    """Writes what a trial reports to the ledger.

    Args:
        recorder: of this attempt.
        early_stopping: says where to measure, and whether the trial is stopped there; None where nothing is stopped.
        rounds: of the trial; nothing is stopped after the last.
        account: of the trial's steps, which training writes up.
        beat: told at every sign of life.

    Attributes:
        system: looks at the memory of the process and its device, where that was asked for.
        training_s: seconds in the steps so far.
    """

    def __init__(
        self,
        recorder: Writer,
        early_stopping: EarlyStopping | None,
        rounds: int,
        account: Account,
        beat: Callable[[], None] = lambda: None,
    ) -> None:
        self.recorder = recorder
        self.early_stopping = early_stopping
        self.rounds = rounds
        self.account = account
        self.beat = beat
        self.system: Callable[[], Mapping[str, float]] = _nothing
        self.training_s = 0.0
        self._needed = self._shared = 0
        self._places: dict[str, int] = {}
        self._lacks: tuple[str, int] | None = None
        self._oom = False
        self._told = 0.0
        self._mark = time.monotonic()

    def started(self, key: str, total: int) -> None:
        """The data are read, and the trial begins."""
        self.beat()

    def stage(self, name: str, total: int) -> None:
        """A segment begins."""
        self.beat()
        self._mark = time.monotonic()

    def step(self, step: int, total: int, loss: Tensor) -> None:
        """A step is done."""
        self.training_s += time.monotonic() - self._mark
        self.beat()
        if time.monotonic() - self._told > PROGRESS_EVERY_S:
            self.tell()
        self._mark = time.monotonic()

    def reached(self, place: str, step: int) -> None:
        """A state is there that others can ask for, and may wait for."""
        if step > self._places.get(place, -1):
            self._places[place] = step
            self._shared = self.account.trained
            self.tell()

    def lacking(self, address: str, step: int) -> None:
        """The trial waits for what somebody else trains."""
        self._lacks = (address, step)
        self.tell()

    def out_of_memory(self) -> None:
        """The trial waits for a device that it has alone."""
        self._oom = True
        self.tell()

    def tell(self) -> None:
        """Write down how far the attempt is."""
        self._told = time.monotonic()
        done = self.account
        self.recorder.progress(
            Progress(
                trained=done.trained,
                replayed=done.replayed,
                repeated=done.repeated,
                stored=done.stored,
                shared=self._shared,
                reached=dict(self._places),
                lacking=self._lacks,
                oom=self._oom,
            )
        )

    def observe_at(self, total: int, epoch: int, settled: int) -> Collection[int]:
        """Once an epoch, at most so many times, and where the stopping rule wants it."""
        every = epoch * max(1, -(-total // epoch // MAX_OBSERVATIONS))
        wanted = set(range(every, total, every))
        if self.early_stopping is not None:
            wanted |= {settled + step for step in self.early_stopping.measure_at(total - settled, epoch)}
        return wanted

    def observed(self, seen: Observation) -> None:
        """A measurement in the middle of a retraining."""
        mark = None if self.early_stopping is None else self.early_stopping.wanted.get(seen.mature)
        at = mark_fields(seen.mature, mark)
        data = self._measured(seen.round_number, at, seen.steps_trained, seen.metrics, seen.sparsity)
        # The ledger is read where the stopping rule has something to say, and nowhere else.
        if mark is not None:
            self._judged((None, mark), data)

    def round_done(self, result: RoundResult) -> None:
        """A measurement at the end of a round."""
        reached, steps = result.receipt.reached, int(result.metrics["steps_trained"])
        data = self._measured(result.number, mark_fields(None), steps, result.metrics, reached)
        if result.number < self.rounds:
            self._judged((reached, None), data)

    def _judged(self, maturity: Maturity, data: Mapping[str, Any]) -> None:
        """End the trial, or the attempt, where the scheduler says so."""
        if self.early_stopping is None or not self.early_stopping.stops(maturity):
            return
        if not self.early_stopping.pauses:
            raise StoppedError
        # As for every preempted training, its state is stored first.
        raise PausedError(data)

    def _measured(
        self, number: int, at: Mapping[str, Any], steps: int, metrics: Mapping[str, Any], sparsity: float
    ) -> Mapping[str, Any]:
        data = {"round": number, **at, "steps_trained": steps, "metrics": finite(metrics), "sparsity": sparsity}
        system = self.system()
        if system:
            data["system"] = finite(system)
        self.recorder.write("measured", data)
        self._needed = steps
        self.beat()
        self._mark = time.monotonic()
        return data

    def steps(self, result: Result | None) -> dict[str, int]:
        """What was trained, and what stored states spared; of a trial without a result, up to its last measurement."""
        trained = self.account.trained
        saved = result.steps[1] if result is not None else max(0, self._needed - trained)
        return {"steps_trained": trained, "steps_saved": saved}
