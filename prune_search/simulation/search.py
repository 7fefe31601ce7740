"""Runs a search without Ray or training: simulated trials on virtual workers, with the same rules and ledger."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from prune_search.ledger.progress import Progress
from prune_search.ledger.records import Recorder, SearchRecords, TrialRecords
from prune_search.recipe.axes import METRICS
from prune_search.recipe.problems import Problem, UserError
from prune_search.recipe.recipe import Recipe
from prune_search.recipe.schema import BLOCKS
from prune_search.recipe.search_block import metrics_asked
from prune_search.recipe.space import Space
from prune_search.search.next_trial import Next, NextTrial
from prune_search.search.rungs import Mark, Maturity, mark_fields
from prune_search.search.schedulers import Decisions, make_stopping_rule
from prune_search.simulation.chain import check_sparsity, epoch_of
from prune_search.simulation.run import SECONDS_PER_STEP, DiedError, Running, Trial
from prune_search.simulation.surface import Simulation
from prune_search.simulation.trained import Trained
from prune_search.storage.places import StoragePath
from prune_search.trial.callbacks import Observation
from prune_search.trial.errors import TrialError
from prune_search.trial.result import finite

if TYPE_CHECKING:
    from prune_search.trial.result import RoundResult

MAX_OBSERVATIONS = 25
HOST = "simulated"

Listener = Callable[[SearchRecords, TrialRecords | None], None]


class _Stopped(Exception):
    """The judge stopped the trial."""


@dataclass
class _Ledger:
    """A simulated trial's sink: the records that a worker writes, and the judge.

    Attributes:
        trial: what is known of it; what is written is added.
        recorder: of this attempt.
        decisions: the judge; None where nothing stops the trial.
        records: of the search.
    """

    trial: TrialRecords
    recorder: Recorder
    decisions: Decisions | None
    records: SearchRecords
    epoch: int = 1
    wanted: Mapping[int, Mark] = field(default_factory=dict)
    places: dict[str, int] = field(default_factory=dict)
    steps: Callable[[], int] = lambda: 0

    def started(self, key: str, total: int) -> None:
        """Nothing: that it was started is written before."""

    def stage(self, name: str, total: int) -> None:
        """Nothing."""

    def step(self, step: int, total: int, loss: Any) -> None:
        """Nothing: no step is trained."""

    def observe_at(self, total: int, epoch: int, settled: int) -> Collection[int]:
        """Once an epoch, at most so many times, and where the judge wants it."""
        self.epoch = epoch
        every = epoch * max(1, -(-total // epoch // MAX_OBSERVATIONS))
        found = set(range(every, total, every))
        if self.decisions is not None:
            judge = make_stopping_rule(self.decisions.block["scheduler"], epoch)
            self.wanted = judge.measure_at(total - settled)
            found |= {settled + step for step in self.wanted}
        return found

    def observed(self, seen: Observation) -> None:
        """A measurement in the middle of a retraining."""
        mark = self.wanted.get(seen.mature)
        at = mark_fields(seen.mature, mark)
        self._measured(seen.round_number, at, seen.steps_trained, seen.metrics, seen.sparsity)
        if mark is not None:
            self._judge((None, mark))

    def round_done(self, result: RoundResult) -> None:
        """A measurement at the end of a round."""
        reached = result.receipt.reached
        self._measured(result.number, mark_fields(None), int(result.metrics["steps_trained"]), result.metrics, reached)
        if result.number < self.trial.recipe["rounds"]:
            self._judge((reached, None))

    def reached(self, place: str, step: int) -> None:
        """A segment was trained so far."""
        if step > self.places.get(place, -1):
            self.places[place] = step
            # The next-trial rule reads it where another trial waits for the segment.
            trained = self.steps()
            told = Progress(trained, stored=trained, shared=trained, reached=dict(self.places))
            self.recorder.progress(told)
            self.trial.progress[self.recorder.attempt] = told

    def _measured(
        self, number: int, at: Mapping[str, Any], steps: int, metrics: Mapping[str, Any], sparsity: float
    ) -> None:
        data = {"round": number, **at, "steps_trained": steps, "metrics": finite(metrics), "sparsity": sparsity}
        self.trial.add_measured(self.recorder.write("measured", data))
        if self.decisions is not None:
            self.decisions.places.update(self.trial)

    def _judge(self, maturity: Maturity) -> None:
        if self.decisions is not None and self.decisions.stops(self.trial.id, maturity, self.epoch, self.records.dense):
            raise _Stopped


@dataclass
class _Worker:
    """A virtual worker, at a trial.

    Attributes:
        identity: of the trial.
        trial: what it runs.
        running: its course; the first time it is sent nothing.
        recorder: of the attempt.
        begun: on the virtual clock.
    """

    identity: str
    trial: Trial
    running: Running
    recorder: Recorder
    begun: float
    fresh: bool = True

    def go_on(self, now: float) -> float:
        """Until when it is busy.

        Raises:
            StopIteration: the trial is done; its result is the value.
            TrialError, UserError, _Stopped, DiedError: see `Trial.run`.
        """
        if self.fresh:
            self.fresh = False
            return next(self.running)
        return self.running.send(now)


@dataclass
class SimulatedRun:
    """Runs what the next-trial rule says on ``search.concurrency`` virtual workers, in this process.

    Attributes:
        next_trial: of the search.
        simulation: the surface.
        asked: whether the search is to end.
        listener: told the records whenever a trial was started or ended.
        order: which of the workers that are ready goes on next: from their number in the order of readiness to the
            index of one of them. A test makes it another than the first.
    """

    next_trial: NextTrial
    simulation: Simulation
    asked: Callable[[], bool]
    listener: Listener
    order: Callable[[int], int] = lambda count: 0
    now: float = 0.0
    shared: Trained = field(default_factory=Trained)
    decisions: Decisions | None = None
    _work: list[tuple[float, int, _Worker]] = field(default_factory=list)
    _tickets: Iterator[int] = field(default_factory=itertools.count)

    def run(self) -> None:
        """Run the search to its end, or until it is asked to end."""
        self._take_up()
        while not self.asked():
            following = self._next()
            if isinstance(following, TrialRecords):
                self._start(following)
            elif self._work:
                self._go_on()
            elif following is Next.FINISHED:
                return
            else:
                raise RuntimeError("the search is waiting, but nothing is running")

    def _take_up(self) -> None:
        """What an earlier process has measured and trained."""
        if self.next_trial.search["scheduler"] != "none":
            self.decisions = Decisions(self.next_trial.search)
        for trial in self.next_trial.records.trials.values():
            if self.decisions is not None:
                self.decisions.places.update(trial)
        self.shared.reached = {address: (step, 0.0) for address, step in self.next_trial.tree.done.items()}

    def _next(self) -> TrialRecords | Next:
        return self.next_trial.next() if len(self._work) < self.next_trial.search["concurrency"] else Next.WAIT

    def _start(self, trial: TrialRecords) -> None:
        if trial.ended is not None:
            self._done(trial.id, None)
            return
        recorder = Recorder(self.next_trial.folder, trial.id, len(trial.attempts) + 1)
        started = recorder.write("started", {"host": HOST, "pid": 0, "node": ""})
        trial.attempts.append(started)
        # The controls are there to be compared with: nothing stops them.
        ledger = _Ledger(trial, recorder, None if trial.control else self.decisions, self.next_trial.records)
        simulated = Trial(_recipe(trial), self.simulation, self.shared, ledger, recorder.attempt)
        ledger.steps = lambda: simulated.trained
        self._push(_Worker(trial.id, simulated, simulated.run(self.now), recorder, self.now), self.now)
        self.listener(self.next_trial.records, None)

    def _push(self, worker: _Worker, at: float) -> None:
        heapq.heappush(self._work, (at, next(self._tickets), worker))

    def _go_on(self) -> None:
        """The worker that is ready first goes on to its next rest, or to its end."""
        at, _, worker = self._work.pop(self.order(len(self._work)))
        heapq.heapify(self._work)
        self.now = max(self.now, at)
        error: dict[str, str] | None = None
        result: dict[str, Any] | None = None
        try:
            self._push(worker, worker.go_on(self.now))
            return
        except StopIteration as done:
            status, result = "completed", done.value
        except _Stopped:
            status = "stopped"
        except DiedError:
            self._died(worker)
            return
        except TrialError as failure:
            status, error = "failed", {"kind": failure.kind, "message": str(failure)}
        except UserError as failure:
            message = "; ".join(str(problem) for problem in failure.problems)
            status, error = "failed", {"kind": "user", "message": message}
        seconds = (self.now - worker.begun) * SECONDS_PER_STEP
        trained, needed = worker.trial.trained, worker.trial.needed
        spent = {"steps_trained": trained, "steps_saved": needed - trained}
        times = {"seconds": seconds, "training_seconds": trained * SECONDS_PER_STEP}
        worker.recorder.write("ended", {"status": status, "result": result, "error": error, **spent, **times})
        self._done(worker.identity, None)

    def _died(self, worker: _Worker) -> None:
        """As Tune does it: the trial is started again, or given up."""
        trial = self.next_trial.records.trials[worker.identity]
        if len(trial.attempts) > self.next_trial.search["max_failures"]:
            self._done(worker.identity, "the trial's process died more often than max_failures allows")
        else:
            self._start(trial)

    def _done(self, identity: str, lost: str | None) -> None:
        trial = self.next_trial.done(identity, lost)
        if self.decisions is not None:
            self.decisions.places.update(trial)
        self.listener(self.next_trial.records, trial)


def _recipe(trial: TrialRecords) -> Recipe:
    return Recipe.read({key: trial.recipe[key] for key in BLOCKS})


def check_metrics(space: Space) -> None:
    """Whether a simulated search can have the metrics that it names.

    Raises:
        UserError: one is measured on a network.
    """
    facts = {name: METRICS[name].facts for name in metrics_asked(space.search)}
    if costly := [name for name, known in facts.items() if not (known.always and known.simulated)]:
        text = f"{costly[0]} is measured on networks, which a simulated search does not have"
        raise UserError([Problem("search", text)])


def simulate_search(
    space: Space,
    folder: StoragePath,
    simulation: Simulation,
    asked: Callable[[], bool],
    listener: Listener | None = None,
) -> SearchRecords:
    """Run a simulated search from its ledger to its end, or until it is asked to end.

    Args:
        space: what is searched; its search block says how.
        folder: of the search.
        simulation: the surface.
        asked: whether the search is to end.
        listener: told the records whenever a trial was started or ended.

    Returns:
        The records.

    Raises:
        UserError: a thousand draws in a row were invalid.
        StorageError: the ledger cannot be written.
    """
    next_trial = NextTrial.open(folder, space, known_to(simulation), asked)
    SimulatedRun(next_trial, simulation, asked, listener or (lambda records, trial: None)).run()
    return next_trial.records


def known_to(simulation: Simulation) -> Callable[[Recipe], int]:
    """Iterations in an epoch of a recipe; one of which the surface says nothing is refused."""

    def epoch(recipe: Recipe) -> int:
        check_sparsity(recipe)
        simulation.surface.check(recipe)
        return epoch_of(recipe)

    return epoch
