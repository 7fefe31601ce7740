"""Runs a search without Ray or training: simulated trials on virtual workers, with the same rules and ledger."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from prune_search.ledger.progress import Progress
from prune_search.ledger.records import PAUSED, Kind, Record, Recorder, SearchRecords, TrialRecords
from prune_search.recipe.metric_names import metric_facts
from prune_search.recipe.problems import Problem, UserError
from prune_search.recipe.recipe import Recipe
from prune_search.recipe.search_block import metrics_asked
from prune_search.recipe.space import Space
from prune_search.search.ledger_callbacks import EarlyStopping, LedgerSink, StoppedError
from prune_search.search.next_trial import Listener, Next, NextTrial
from prune_search.search.schedulers import Decisions
from prune_search.simulation.chain import check_sparsity, epoch_of
from prune_search.simulation.run import SECONDS_PER_STEP, DiedError, Running, SimulatedSteps, Trial
from prune_search.simulation.surface import Simulation
from prune_search.simulation.trained import Trained
from prune_search.storage.places import StoragePath
from prune_search.training.state_store import PausedError
from prune_search.trial.errors import TrialError

HOST = "simulated"


@dataclass(frozen=True)
class _Recording:
    """Writes the records of an attempt, and adds them to what is known of its trial: nobody reads them anew.

    Attributes:
        recorder: of the attempt.
        trial: what is known of it.
        decisions: over the search, which look at what was measured; None where nothing is stopped.
    """

    recorder: Recorder
    trial: TrialRecords
    decisions: Decisions | None

    def write(self, kind: Kind, data: Mapping[str, Any]) -> Record:
        """A measurement."""
        record = self.recorder.write(kind, data)
        self.trial.add_measured(record)
        if self.decisions is not None:
            self.decisions.places.update(self.trial)
        return record

    def progress(self, progress: Progress) -> None:
        """The next-trial rule reads it where another trial waits for a segment."""
        self.recorder.progress(progress)
        self.trial.progress[self.recorder.attempt] = progress


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
            TrialError, UserError, StoppedError, PausedError, DiedError: see `Trial.run`.
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
        if self.next_trial.promotions is not None:
            self.decisions = self.next_trial.promotions.decisions
        elif self.next_trial.search["scheduler"] != "none":
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
        decisions = None if trial.control else self.decisions
        early_stopping = None if decisions is None else self._early_stopping(trial, decisions)
        recipe, steps = _recipe(trial), SimulatedSteps()
        sink = LedgerSink(_Recording(recorder, trial, decisions), early_stopping, recipe.rounds, steps)
        asked = metrics_asked(self.next_trial.search)
        simulated = Trial(recipe, self.simulation, self.shared, sink, steps, recorder.attempt, asked)
        self._push(_Worker(trial.id, simulated, simulated.run(self.now), recorder, self.now), self.now)
        self.listener(self.next_trial.records, None)

    def _early_stopping(self, trial: TrialRecords, decisions: Decisions) -> EarlyStopping:
        """All that was measured is known to the decisions already."""
        records, scheduler = self.next_trial.records, self.next_trial.search["scheduler"]
        return EarlyStopping(trial.id, scheduler, lambda: (decisions, records.dense))

    def _push(self, worker: _Worker, at: float) -> None:
        heapq.heappush(self._work, (at, next(self._tickets), worker))

    def _go_on(self) -> None:
        """The worker that is ready first goes on to its next rest, or to its end."""
        at, _, worker = self._work.pop(self.order(len(self._work)))
        heapq.heapify(self._work)
        self.now = max(self.now, at)
        error: dict[str, str] | None = None
        result: dict[str, Any] | None = None
        paused: dict[str, Any] = {}
        try:
            self._push(worker, worker.go_on(self.now))
            return
        except StopIteration as done:
            status, result = "completed", done.value
        except StoppedError:
            status = "stopped"
        except PausedError as rest:
            status, paused = PAUSED, {PAUSED: rest.at}
        except DiedError:
            self._died(worker)
            return
        except TrialError as failure:
            status, error = "failed", {"kind": failure.kind, "message": str(failure)}
        except UserError as failure:
            message = "; ".join(str(problem) for problem in failure.problems)
            status, error = "failed", {"kind": "user", "message": message}
        seconds = (self.now - worker.begun) * SECONDS_PER_STEP
        trained, needed = worker.trial.steps.trained, worker.trial.steps.needed
        spent = {"steps_trained": trained, "steps_saved": needed - trained}
        times = {"seconds": seconds, "training_seconds": trained * SECONDS_PER_STEP}
        worker.recorder.write("ended", {"status": status, "result": result, "error": error, **paused, **spent, **times})
        self._done(worker.identity, None)

    def _died(self, worker: _Worker) -> None:
        """As Tune does it: the trial is started again, or given up."""
        trial = self.next_trial.records.trials[worker.identity]
        before = trial.promotions[-1].attempt if trial.promotions else 0
        since = sum(one.attempt > before for one in trial.attempts)
        if since > self.next_trial.search["max_failures"]:
            self._done(worker.identity, "the trial's process died more often than max_failures allows")
        else:
            self._start(trial)

    def _done(self, identity: str, lost: str | None) -> None:
        trial = self.next_trial.done(identity, lost)
        if self.decisions is not None:
            self.decisions.places.update(trial)
        self.listener(self.next_trial.records, trial)


def _recipe(trial: TrialRecords) -> Recipe:
    return Recipe.from_canonical(trial.recipe)


def check_metrics(space: Space) -> None:
    """Whether a simulated search can have the metrics that it names.

    Raises:
        UserError: one is measured on a network.
    """
    if costly := [name for name in metrics_asked(space.search) if not metric_facts(name).simulated]:
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
