"""Callbacks that record a trial's reports in the ledger, and ask a stopping rule whether it continues.

A worker decides for itself whether to stop (a judge is a function of the records that lie on the storage), so that no
decision waits for the driver, and a resumed search decides alike.
"""

from __future__ import annotations

import faulthandler
import sys
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from prune_search.ledger.progress import Progress
from prune_search.ledger.reader import Follower
from prune_search.ledger.records import Recorder
from prune_search.search.ray.memory_metrics import Figures, none
from prune_search.search.rungs import Mark, Maturity, mark_fields
from prune_search.search.schedulers import Decisions, make_stopping_rule
from prune_search.storage.places import StoragePath

if TYPE_CHECKING:
    from torch import Tensor

    from prune_search.training.state_store import Steps
    from prune_search.trial.callbacks import Observation
    from prune_search.trial.result import Result, RoundResult

MAX_OBSERVATIONS = 25
PROGRESS_EVERY_S = 1.0
# A data set can be large, and user code slow to import.
START_S = 300.0


class StoppedError(Exception):
    """The judge stopped the trial."""


@dataclass
class EarlyStopping:
    """The scheduler's judge over one trial: it reads the records of all trials from the storage.

    Attributes:
        search: folder of the search.
        trial: the trial's id.
        scheduler: canonical.
        block: the search block.
        epoch: iterations in an epoch, once known.
    """

    search: StoragePath
    trial: str
    scheduler: Any
    block: Mapping[str, Any]
    epoch: int = 1
    wanted: Mapping[int, Mark] = field(default_factory=dict)

    def measure_at(self, total: int, epoch: int) -> Collection[int]:
        """Where the judge wants the network measured, in steps since the asked sparsity was reached."""
        self.epoch = epoch
        self.wanted = make_stopping_rule(self.scheduler, epoch).measure_at(total)
        return self.wanted.keys()

    def stops(self, maturity: Maturity) -> bool:
        """Whether the trial is stopped at a measurement that it has just written."""
        follower, decisions = _verdicts(self.search, self.block)
        records, changed = follower.read()
        for identity in changed & set(records.trials):
            decisions.places.update(records.trials[identity])
        return decisions.stops(self.trial, maturity, self.epoch, records.dense)


_VERDICTS: dict[StoragePath, tuple[Follower, Decisions]] = {}


def _verdicts(search: StoragePath, block: Mapping[str, Any]) -> tuple[Follower, Decisions]:
    """What this process has read of a search: it runs one trial after the other, and reads no record twice."""
    if search not in _VERDICTS or _VERDICTS[search][1].block != block:
        _VERDICTS.clear()
        _VERDICTS[search] = (Follower(search), Decisions(block))
    return _VERDICTS[search]


class LedgerSink:
    """Writes what a trial reports to the ledger.

    Args:
        recorder: of this attempt.
        early_stopping: says where to measure, and whether the trial is stopped there; None where nothing is stopped.
        heartbeat_s: see `Job`.
        rounds: of the trial; nothing is stopped after the last.
        steps: the trial's account, which training writes up.

    Attributes:
        system: looks at the memory of the process and its device, where that was asked for.
    """

    def __init__(
        self, recorder: Recorder, early_stopping: EarlyStopping | None, heartbeat_s: float, rounds: int, steps: Steps
    ) -> None:
        self.rounds = rounds
        self.recorder = recorder
        self.account = steps
        self.needed = self.shared = 0
        self.places: dict[str, int] = {}
        self.lacks: tuple[str, int] | None = None
        self.oom = False
        self.system: Figures = none
        self.training_s = 0.0
        self._mark = time.monotonic()
        self.early_stopping = early_stopping
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
        """A segment begins."""
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

    def out_of_memory(self) -> None:
        """The trial waits for a device that it has alone."""
        self.oom = True
        self.tell()

    def tell(self) -> None:
        """Write down how far the attempt is."""
        self.told = time.monotonic()
        done = self.account
        self.recorder.progress(
            Progress(
                trained=done.trained,
                replayed=done.replayed,
                repeated=done.repeated,
                stored=done.stored,
                shared=self.shared,
                reached=dict(self.places),
                lacking=self.lacks,
                oom=self.oom,
            )
        )

    def observe_at(self, total: int, epoch: int, settled: int) -> Collection[int]:
        """Once an epoch, at most so many times, and where the judge wants it."""
        every = epoch * max(1, -(-total // epoch // MAX_OBSERVATIONS))
        wanted = set(range(every, total, every))
        if self.early_stopping is not None:
            wanted |= {settled + step for step in self.early_stopping.measure_at(total - settled, epoch)}
        return wanted

    def observed(self, seen: Observation) -> None:
        """A measurement in the middle of a retraining."""
        mark = None if self.early_stopping is None else self.early_stopping.wanted.get(seen.mature)
        at = mark_fields(seen.mature, mark)
        self._measured(seen.round_number, at, seen.steps_trained, seen.metrics, seen.sparsity)
        # The ledger is read where the judge has something to say, and nowhere else.
        if self.early_stopping is not None and mark is not None and self.early_stopping.stops((None, mark)):
            raise StoppedError

    def round_done(self, result: RoundResult) -> None:
        """A measurement at the end of a round."""
        reached = result.receipt.reached
        self._measured(result.number, mark_fields(None), int(result.metrics["steps_trained"]), result.metrics, reached)
        if (
            self.early_stopping is not None
            and result.number < self.rounds
            and self.early_stopping.stops((reached, None))
        ):
            raise StoppedError

    def _measured(
        self, number: int, at: Mapping[str, Any], steps: int, metrics: Mapping[str, Any], sparsity: float
    ) -> None:
        from prune_search.trial.result import finite

        data = {"round": number, **at, "steps_trained": steps, "metrics": finite(metrics), "sparsity": sparsity}
        system = self.system()
        if system:
            data["system"] = finite(system)
        self.recorder.write("measured", data)
        self.needed = steps
        self.beat()
        self._mark = time.monotonic()

    def steps(self, result: Result | None) -> dict[str, int]:
        """What was trained, and what stored states spared; of a trial without a result, up to its last measurement."""
        trained = self.account.trained
        saved = result.steps[1] if result is not None else max(0, self.needed - trained)
        return {"steps_trained": trained, "steps_saved": saved}
