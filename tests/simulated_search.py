"""Searches without Ray and training: real proposals over the real ledger, and trials that only write records."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from made_search import make_definition, result_of

from prune_search.ledger.records import Recorder, SearchRecords, TrialRecords, read_search
from prune_search.recipe import strict_yaml
from prune_search.recipe.space import Space, known_epoch, read_space
from prune_search.search.next_trial import Next, NextTrial

SPACE = """\
task: {data: digits, model: {name: mlp, hidden: [16]}, seed: 0}
train: {steps: 3ep}
mask: {sparsity: {hole: uniform, low: 0.5, high: 0.95}}
any:
- preset: snip
- preset: lottery-ticket
  rounds: {hole: int, low: 2, high: 4}
- preset: random
search: {trials: 12, concurrency: 3, reproducible: true, sampler: tpe, seed: 5}
"""
Figures = Callable[[TrialRecords], Mapping[str, Any] | None]


def figures_of(trial: TrialRecords) -> Mapping[str, Any] | None:
    """Metrics that are a function of the recipe; None for one in nine, which fail."""
    assert trial.proposed is not None
    draw = random.Random(trial.proposed.data["digest"])
    sparsity = trial.recipe["mask"]["sparsity"].get("final", 0.0)
    metrics = {"val/accuracy": draw.random(), "val/loss": draw.random(), "sparsity": sparsity, "steps_trained": 27}
    return metrics if trial.control or draw.random() > 1 / 9 else None


@dataclass
class Simulation:
    """Runs a search; what it does at which instant is drawn.

    Attributes:
        folder: of the search.
        space: what is searched.
        seed: of the instants.
        figures: from a trial to its metrics, or None where it fails.
        asked: whether the search is to end.
    """

    folder: Path
    space: Space
    seed: int = 0
    figures: Figures = figures_of
    asked: bool = False
    started: list[str] = field(default_factory=list)

    @classmethod
    def begin(cls, storage: Path, text: str = SPACE, seed: int = 0, figures: Figures = figures_of) -> Simulation:
        """Write search.json."""
        folder = make_definition(storage, "simulated", text)
        return cls(folder, read_space(strict_yaml.load(text), "simulated"), seed, figures)

    def run(self) -> SearchRecords:
        """Run it from its ledger to its end."""
        next_trial = NextTrial.open(self.folder, self.space, known_epoch, lambda: self.asked)
        draw = random.Random(self.seed)
        work: dict[str, Iterator[None]] = {}
        while True:
            following = next_trial.next() if len(work) < self.space.search["concurrency"] else Next.WAIT
            if isinstance(following, TrialRecords):
                work[following.id] = self._work(following)
                self.started.append(following.id)
                continue
            if following is Next.FINISHED and not work:
                return read_search(self.folder)
            assert work, "the search waits for nothing"
            identity = draw.choice(sorted(work))
            if next(work[identity], "done") == "done":
                del work[identity]
                next_trial.done(identity, None)

    def _work(self, trial: TrialRecords) -> Iterator[None]:
        """What a worker writes, one record at a time."""
        assert trial.proposed is not None
        recorder = Recorder(self.folder, trial.id, len(trial.attempts) + 1)
        recorder.write("started", {"host": "here", "pid": 1, "node": ""})
        yield
        metrics = self.figures(trial)
        for step in (9, 18):
            measured = {"val/accuracy": step / 30}
            data = {"round": 1, "step": step, "steps_trained": step, "metrics": measured, "sparsity": 0.5}
            recorder.write("measured", data)
            yield
        proposed = trial.proposed.data
        ended = {"status": "failed", "result": None, "error": {"kind": "nan", "message": "the loss is nan"}}
        if metrics is not None:
            result = result_of(proposed["recipe"], metrics, proposed["paradigm"], metrics["sparsity"])
            ended = {"status": "completed", "result": result, "error": None}
        recorder.write("ended", {**ended, "steps_trained": 27, "steps_saved": 0, "seconds": 1.0})
