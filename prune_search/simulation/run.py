"""Simulates one trial: it reports like a trained one, but trains nothing."""

from __future__ import annotations

from collections.abc import Collection, Generator
from dataclasses import dataclass, field
from typing import Any

from prune_search.pruning.mask.receipt import LayerReceipt, Receipt
from prune_search.recipe.axes import METRICS
from prune_search.recipe.paradigm import paradigm
from prune_search.recipe.recipe import Recipe, digest_of
from prune_search.simulation.chain import UNITS, Chain, SimulatedRound, chain_of
from prune_search.simulation.surface import Outlook, Simulation, loss_at, normal, uniform
from prune_search.simulation.trained import Trained
from prune_search.tasks.metrics import Measured, at_the_end, figures, in_training
from prune_search.trial.addresses import Vertex
from prune_search.trial.callbacks import Observation, Sink
from prune_search.trial.errors import TrialError
from prune_search.trial.result import RoundResult, finite

# A step takes so long on a simulated worker.
SECONDS_PER_STEP = 0.01
LAYER = "simulated"

# It yields when it goes on, on the virtual clock, is sent the time then, and returns the result's data.
Running = Generator[float, float, dict[str, Any]]


class DiedError(Exception):
    """The simulated worker's process died."""


@dataclass
class SimulatedSteps:
    """The account of a simulated trial: a step is stored as it is trained, and none is trained twice.

    Attributes:
        trained: steps that were trained for it.
        needed: steps of the recipe so far, whoever trained them.
    """

    trained: int = 0
    needed: int = 0
    replayed: int = 0
    repeated: int = 0

    @property
    def stored(self) -> int:
        """As many as were trained."""
        return self.trained


@dataclass
class Trial:
    """A trial on a simulated worker.

    Attributes:
        recipe: canonical.
        simulation: the surface.
        shared: what the search has trained.
        sink: callbacks that receive the progress.
        steps: its account.
        attempt: from 1.
        asked: metrics that the search names.
    """

    recipe: Recipe
    simulation: Simulation
    shared: Trained
    sink: Sink
    steps: SimulatedSteps = field(default_factory=SimulatedSteps)
    attempt: int = 1
    asked: Collection[str] = ()
    _now: float = 0.0
    _marks: dict[int, Exception] = field(default_factory=dict)

    def run(self, now: float) -> Running:
        """Run it.

        Args:
            now: on the virtual clock, in steps.

        Raises:
            TrialError: its loss becomes NaN, as the surface wants it.
            DiedError: its process dies, as the surface wants it.
            UserError: the surface says nothing about the recipe.
        """
        self._now = begun = now
        surface = self.simulation.surface
        surface.check(self.recipe)
        chain = chain_of(self.recipe)
        key = self.recipe.key({"network": self.simulation.digest, "data": self.simulation.digest})
        self._marks = _troubles(key, chain, self.simulation, self.attempt)
        self.sink.started(key, chain.needed)
        yield from self._leg(chain.first)
        rounds = []
        for simulated_round in chain.rounds:
            outlook = surface.outlook(simulated_round.point)
            for vertex in simulated_round.before:
                yield from self._leg(vertex)
            yield from self._retrain(chain, simulated_round, outlook)
            metrics = self._metrics(at_the_end("validation", self.asked), outlook.accuracy, simulated_round)
            rounds.append(
                RoundResult(
                    simulated_round.point.number, _receipt(simulated_round), _digest(simulated_round, "mask"), metrics
                )
            )
            self.sink.round_done(rounds[-1])
        return self._result(key, chain, rounds, (self._now - begun) * SECONDS_PER_STEP)

    def _leg(self, vertex: Vertex, begin: int = 0, end: int | None = None) -> Generator[float, float, None]:
        """Train a segment, or a piece of it."""
        end = vertex.needed if end is None else end
        if end <= begin:
            return
        mark = min(
            (place for place in self._marks if self.steps.needed < place <= self.steps.needed + end - begin),
            default=None,
        )
        stop = end if mark is None else begin + mark - self.steps.needed
        trained, ready = self.shared.train(vertex.address, stop, self._now)
        self.steps.trained += trained
        self.steps.needed += stop - begin
        if ready > self._now:
            self._now = yield ready
        self.sink.reached(vertex.place, stop)
        if mark is not None:
            raise self._marks[mark]

    def _retrain(
        self, chain: Chain, simulated_round: SimulatedRound, outlook: Outlook
    ) -> Generator[float, float, None]:
        total, epoch = simulated_round.retraining.needed, chain.timeline.epoch
        wanted = sorted(set(self.sink.observe_at(total, epoch, simulated_round.settled))) if total else []
        at = 0
        for step in [step for step in wanted if 0 < step < total]:
            yield from self._leg(simulated_round.retraining, at, step)
            at = step
            accuracy = outlook.during(step / total, normal(simulated_round.point.address, step))
            metrics = self._metrics(in_training(self.asked), accuracy, simulated_round)
            number, mature = simulated_round.point.number, step - simulated_round.settled
            self.sink.observed(Observation(number, step, mature, self.steps.needed, metrics, simulated_round.asked))
        yield from self._leg(simulated_round.retraining, at, total)

    def _metrics(self, names: list[str], accuracy: float, simulated_round: SimulatedRound) -> dict[str, float]:
        """Of some metrics, those that a simulation has, as they are taken of a trained network."""
        measured = Measured(
            scores={"validation": {"accuracy": accuracy, "loss": loss_at(accuracy)}},
            kept={LAYER: simulated_round.kept},
            total={LAYER: UNITS},
            steps_trained=self.steps.needed,
        )
        return figures(measured, (name for name in names if METRICS[name].facts.simulated))

    def _result(self, key: str, chain: Chain, rounds: list[RoundResult], seconds: float) -> dict[str, Any]:
        """The data of `trial.result.Result.as_data`, and that it is simulated."""
        last, receipt, digest = chain.rounds[-1], rounds[-1].receipt, self.simulation.digest
        return {
            "key": key,
            "preset": None,
            "paradigm": paradigm(self.recipe),
            "mask_sha256": _digest(last, "mask"),
            "weights_sha256": _digest(last, "weights"),
            "environment": {"simulated": self.simulation.name},
            "sparsity": {"asked": receipt.asked, "reached": receipt.reached},
            "layers": [layer.as_data() for layer in receipt.layers],
            "collapsed": receipt.collapsed,
            "metrics": finite(rounds[-1].metrics),
            "rounds": [
                {
                    "round": item.number,
                    "sparsity": {"asked": item.receipt.asked, "reached": item.receipt.reached},
                    "collapsed": item.receipt.collapsed,
                    "mask_sha256": item.mask_sha256,
                    "metrics": finite(item.metrics),
                }
                for item in rounds
            ],
            "steps_trained": self.steps.trained,
            "steps_reused": self.steps.needed - self.steps.trained,
            "steps_replayed": 0,
            "steps_repeated": 0,
            "digests": {"network": digest, "data": digest},
            "seconds": round(seconds, 3),
        }


def _troubles(key: str, chain: Chain, simulation: Simulation, attempt: int) -> dict[int, Exception]:
    """What happens at which step of the whole recipe."""
    surface, needed, found = simulation.surface, chain.needed, dict[int, Exception]()
    if needed and uniform(key, "failing") < surface.failing:
        step = 1 + int(uniform(key, "failing at") * needed)
        found[min(step, needed)] = TrialError("nan", f"the loss is nan at step {step} (simulated)")
    if needed and uniform(key, "dying", attempt) < surface.dying:
        found[min(1 + int(uniform(key, "dying at", attempt) * needed), needed)] = DiedError()
    return found


def _digest(simulated_round: SimulatedRound, what: str) -> str:
    return digest_of({"simulated": what, "of": simulated_round.point.address})


def _receipt(simulated_round: SimulatedRound) -> Receipt:
    layer = LayerReceipt(LAYER, UNITS, simulated_round.kept, UNITS, simulated_round.kept)
    return Receipt(
        simulated_round.asked, 1 - simulated_round.kept / UNITS, simulated_round.kept, simulated_round.kept, (layer,)
    )
