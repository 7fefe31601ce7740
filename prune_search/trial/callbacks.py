"""Callbacks through which a trial reports its progress. It never waits for an answer."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from torch import Tensor

    from prune_search.recipe.step import Step
    from prune_search.trial.result import RoundResult


@dataclass(frozen=True)
class Observation:
    """The network in the middle of a retraining.

    Attributes:
        round_number: r, from 1.
        step: of the retraining.
        mature: steps since the asked sparsity was reached; negative before.
        steps_trained: steps of the whole recipe up to here, whoever trained them.
        metrics: those that are taken in the middle of a retraining (`tasks.metrics.in_training`).
        sparsity: the asked sparsity of the round.
    """

    round_number: int
    step: int
    mature: int
    steps_trained: int
    metrics: Mapping[str, float]
    sparsity: float


class Sink(Protocol):
    """What a trial reports."""

    def started(self, key: str, total: int) -> None:
        """The trial begins; `total` steps are asked for, at most."""

    def stage(self, name: str, total: int) -> None:
        """A segment of at most `total` steps begins to be trained."""

    def step(self, step: int, total: int, loss: Tensor) -> None:
        """A step of the segment is done; `loss` [] is still on the device.

        It can raise `training.state_store.PreemptedError` to end the trial here, its state stored.
        """

    def observe_at(self, total: int, epoch: int, settled: int) -> Collection[int]:
        """The steps of a retraining at which the network is measured.

        Args:
            total: steps of the retraining.
            epoch: iterations in an epoch.
            settled: the step from which the mask has the asked sparsity.
        """

    def observed(self, seen: Observation) -> None:
        """What was measured there. It can raise `training.state_store.PreemptedError`."""

    def round_done(self, result: RoundResult) -> None:
        """A round is done, retrained and measured."""

    def reached(self, place: str, step: int) -> None:
        """A state of a segment is there that others can ask for.

        Args:
            place: of the segment on the recipe's branch (see `addresses.Vertex`).
            step: of the segment.
        """


class Silent:
    """Tells nobody."""

    def started(self, key: str, total: int) -> None:
        """Do nothing."""

    def stage(self, name: str, total: int) -> None:
        """Do nothing."""

    def step(self, step: int, total: int, loss: Tensor) -> None:
        """Do nothing."""

    def observe_at(self, total: int, epoch: int, settled: int) -> Collection[int]:
        """Never."""
        return ()

    def observed(self, seen: Observation) -> None:
        """Do nothing."""

    def round_done(self, result: RoundResult) -> None:
        """Do nothing."""

    def reached(self, place: str, step: int) -> None:
        """Do nothing."""


class Evaluating:
    """Passes everything on to another sink, and has the network measured at multiples of some steps too.

    Args:
        sink: who is told.
        every: steps of a retraining between measurements; a share counts of its own steps.
        told: receives what was measured there.
    """

    def __init__(self, sink: Sink, every: Step, told: Callable[[Observation], None]) -> None:
        self.started = sink.started
        self.stage = sink.stage
        self.step = sink.step
        self.round_done = sink.round_done
        self.reached = sink.reached
        self._sink = sink
        self._every = every
        self._told = told
        self._own: set[int] = set()
        self._others: set[int] = set()

    def observe_at(self, total: int, epoch: int, settled: int) -> Collection[int]:
        """What the other sink wants, and the multiples."""
        every = max(1, self._every.resolve(total, epoch))
        self._own = set(range(every, total, every))
        self._others = set(self._sink.observe_at(total, epoch, settled))
        return self._own | self._others

    def observed(self, seen: Observation) -> None:
        """Tell each what it asked for."""
        if seen.step in self._own:
            self._told(seen)
        if seen.step in self._others:
            self._sink.observed(seen)


class Guarded:
    """Passes everything on to another sink, and ends the trial when it is asked to.

    Args:
        sink: who is told.
        stop: asked after every step; True ends the trial there, its state stored.
    """

    def __init__(self, sink: Sink, stop: Callable[[], bool]) -> None:
        self.started = sink.started
        self.stage = sink.stage
        self.observe_at = sink.observe_at
        self.observed = sink.observed
        self.round_done = sink.round_done
        self.reached = sink.reached
        self._step = sink.step
        self._stop = stop

    def step(self, step: int, total: int, loss: Tensor) -> None:
        """Report the step, then stop the trial if it was asked to."""
        from prune_search.training.state_store import PreemptedError

        self._step(step, total, loss)
        if self._stop():
            raise PreemptedError("the trial was asked to stop; its state is stored")
