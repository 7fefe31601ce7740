"""What the first of several workers exchanges for all of them: the sink's reports and stored measurements."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from prune_search.storage.measurements import Measurements
from prune_search.tasks.workers import Word, Workers
from prune_search.training.state_store import PreemptedError
from prune_search.trial.callbacks import Observation, Sink

if TYPE_CHECKING:
    from torch import Tensor

    from prune_search.trial.result import RoundResult


@dataclass
class AgreedSink:
    """The first worker's sink, on all of them: what it answers, and that it ends the trial.

    Attributes:
        sink: of the first worker; the others' hears nothing.
        workers: that run the trial.
    """

    sink: Sink
    workers: Workers
    _word: Word = field(init=False)

    def __post_init__(self) -> None:
        self._word = Word(self.workers)

    def started(self, key: str, total: int) -> None:
        """Report it."""
        if self.workers.first:
            self.sink.started(key, total)

    def stage(self, name: str, total: int) -> None:
        """Report it."""
        if self.workers.first:
            self.sink.stage(name, total)

    def step(self, step: int, total: int, loss: Tensor) -> None:
        """Report it, and end the trial where the first worker was asked to a step ago."""
        stop = False
        if self.workers.first:
            try:
                self.sink.step(step, total, loss)
            except PreemptedError:
                stop = True
        if self._word.passed_on(stop):
            raise PreemptedError("the trial was asked to stop; its state is stored")

    def observe_at(self, total: int, epoch: int, settled: int) -> Collection[int]:
        """Where the first worker's sink wants the network measured."""
        return self.workers.agreed(lambda: sorted(self.sink.observe_at(total, epoch, settled)))

    def observed(self, seen: Observation) -> None:
        """Report it; where the trial rests here, all workers say so, since each stores what it has of the state."""
        rests: list[PreemptedError] = []

        def told() -> bool:
            try:
                self.sink.observed(seen)
            except PreemptedError as error:
                rests.append(error)
            return bool(rests)

        if self.workers.agreed(told):
            raise rests[0] if rests else PreemptedError("the trial rests; its state is stored")

    def round_done(self, result: RoundResult) -> None:
        """Report it; it can end the trial."""
        self.workers.agreed(lambda: self.sink.round_done(result))

    def reached(self, place: str, step: int) -> None:
        """Report it."""
        if self.workers.first:
            self.sink.reached(place, step)

    def close(self) -> None:
        """Hear the last word, so that none is under way when the workers part."""
        self._word.heard()


def taken(
    workers: Workers, measurements: Measurements, what: Mapping[str, Any], measure: Callable[[], Mapping[str, float]]
) -> dict[str, float]:
    """A measurement that the first worker reads and stores for all; all of them take one that is not stored.

    Args:
        workers: that run the trial.
        measurements: of the first worker.
        what: everything that the figures depend on, see `Measurements.of`.
        measure: takes it.
    """
    if not workers.several:
        return measurements.of(what, measure)
    found = workers.agreed(lambda: measurements.stored(what))
    if found is None:
        own = {name: float(value) for name, value in measure().items()}
        found = workers.agreed(lambda: own)
        workers.agreed(lambda: measurements.store(what, own))
    return found
