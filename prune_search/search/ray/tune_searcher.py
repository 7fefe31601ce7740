"""Connects Ray Tune with the next-trial rule: Tune asks for the next trial and reports how it ended."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from ray.tune.search import Searcher
from ray.tune.stopper import Stopper

from prune_search.ledger.records import TrialRecords
from prune_search.search.next_trial import Listener, Next, NextTrial
from prune_search.search.ray.kept_workers import KeptWorkers
from prune_search.search.ray.worker import TrialJob


class LedgerSearcher(Searcher):
    """A searcher whose state is the ledger: it is never saved or restored by Tune.

    Args:
        next_trial: what comes next.
        job: from a trial to what its worker needs.
        listener: told the records whenever a trial was started or ended.
        workers: those that are kept while there is nothing to do for them; None keeps none.

    Attributes:
        error: what went wrong here, or None. Tune would retry a trial whose end could not be written down; instead
            the search ends, and the driver says why.
    """

    def __init__(
        self,
        next_trial: NextTrial,
        job: Callable[[TrialRecords], TrialJob],
        listener: Listener,
        workers: KeptWorkers | None = None,
    ) -> None:
        super().__init__(metric=None, mode=None)
        self._next_trial = next_trial
        self._job = job
        self._listener = listener
        self._workers = workers
        self._ready: list[TrialRecords] = []
        self._first = 0 if workers is None else workers.size
        self._ids: dict[str, str] = {}
        self._attempts: dict[str, int] = {}
        self.error: Exception | None = None

    def __getstate__(self) -> dict[str, Any]:
        # Tune pickles its searcher for a restore that never happens; the ledger is the state.
        return {}

    def set_search_properties(self, metric: str | None, mode: str | None, config: dict[str, Any], **spec: Any) -> bool:
        """The objectives are the space's own."""
        return True

    def suggest(self, trial_id: str) -> Any:
        """The next trial's config, None to be asked again, or FINISHED."""
        if self.error is not None:
            return Searcher.FINISHED
        try:
            return self._next(trial_id)
        except Exception as error:  # noqa: BLE001 - raised again by the driver
            self.error = error
            return Searcher.FINISHED

    def _next(self, trial_id: str) -> Any:
        if self._ready:
            # For the worker that was woken, once it is free.
            return None if self._waking() else self._begin(trial_id, self._ready.pop(0))
        if len(self._ids) >= self._next_trial.search["concurrency"]:
            return None
        following = self._next_trial.next()
        if following is Next.WAIT:
            return self._idle(trial_id)
        if following is Next.FINISHED:
            self._wake(self._workers.idle if self._workers is not None else 0)
            return Searcher.FINISHED
        if self._workers is not None and self._workers.idle:
            self._ready.append(following)
            # A trial that needs a whole device needs those of all idle workers.
            self._wake(self._workers.idle if following.alone else 1)
            return None
        return self._begin(trial_id, following)

    def _begin(self, trial_id: str, trial: TrialRecords) -> Any:
        self._ids[trial_id] = trial.id
        self._attempts[trial.id] = len(trial.attempts)
        self._listener(self._next_trial.records, None)
        job = self._job(trial)
        if self._workers is not None and self._first > 0:
            self._first -= 1
            job = replace(job, kept=self._workers.search, wait_for=self._workers.size)
        return job.as_config()

    def _idle(self, trial_id: str) -> Any:
        """A job for a worker that would otherwise end; None where there is none to keep."""
        if self._workers is None or self._next_trial.alone:
            return None
        return self._workers.idle_job(trial_id, len(self._ids))

    def _wake(self, count: int) -> None:
        if self._workers is not None:
            self._workers.wake(count)

    def _waking(self) -> bool:
        return self._workers is not None and self._workers.waking

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """A trial has ended, or its process died more often than it may; or an idle job is over."""
        if self._workers is not None:
            self._workers.ended(trial_id)
        identity = self._ids.pop(trial_id, None)
        if identity is None:
            return
        lost = "the trial's process died more often than max_failures allows" if error else None
        try:
            trial = self._next_trial.done(identity, lost)
            self._listener(self._next_trial.records, trial)
        except Exception as failure:  # noqa: BLE001 - raised again by the driver
            self.error = self.error or failure

    def none_begun(self) -> bool:
        """Whether all trials that Tune has still wait for a place to run."""
        return all(len(self._next_trial.refresh(key).attempts) <= self._attempts[key] for key in self._ids.values())

    def save(self, checkpoint_path: str) -> None:
        """Nothing: the ledger is the state."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing: the ledger is the state."""


class Impatience(Stopper):
    """Ends a search that was asked to end without the trials that wait for a place on a cluster that is busy.

    Those that run store their state first.

    Args:
        searcher: knows which trials have begun.
        asked: whether the search is to end.
    """

    def __init__(self, searcher: LedgerSearcher, asked: Callable[[], bool]) -> None:
        self._searcher = searcher
        self._asked = asked

    def __getstate__(self) -> dict[str, Any]:
        # As for the searcher.
        return {}

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        """No single trial is stopped."""
        return False

    def stop_all(self) -> bool:
        """Asked by Tune again and again."""
        return self._asked() and self._searcher.none_begun()
