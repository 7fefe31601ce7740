"""Searches made up for tests: a definition and records, written as a search writes them, without any training."""

from __future__ import annotations

import json
import math
import random
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prune_search.ledger.records import FORMAT, SEARCH_FILE, Recorder, search_folder, trial_id
from prune_search.recipe.paradigm import paradigm
from prune_search.recipe.recipe import digest_of
from prune_search.recipe.space import read_space

SPACE = """\
# prune-search launch made_up.yaml
task: {data: digits, model: mlp, seed: 0}
train: {steps: 2ep, batch: 100, optimizer: {name: sgd, lr: {hole: loguniform, low: 0.01, high: 1.0}}}
any:
- {preset: magnitude-after-training, mask: {sparsity: {hole: uniform, low: 0.5, high: 0.98}}}
- {preset: snip, mask: {sparsity: {hole: uniform, low: 0.5, high: 0.98}}}
- {preset: random, mask: {sparsity: {hole: uniform, low: 0.5, high: 0.98}}}
- {preset: lottery-ticket, rounds: {hole: int, low: 1, high: 6}}
search: {trials: 24, objectives: [maximize val/accuracy, maximize sparsity]}
"""


@dataclass
class Dice:
    """Draws at random."""

    rng: random.Random

    def choice(self, name: str, labels: tuple[str, ...]) -> int:
        return self.rng.randrange(len(labels))

    def uniform(self, name: str, low: float, high: float, log: bool, step: float | None) -> float:
        return math.exp(self.rng.uniform(math.log(low), math.log(high))) if log else self.rng.uniform(low, high)

    def integer(self, name: str, low: int, high: int, log: bool, step: int) -> int:
        return self.rng.randint(low, high)


def make_definition(storage: Path, name: str, text: str = SPACE, **changes: Any) -> Path:
    """Write search.json; the search's folder."""
    from prune_search.recipe import strict_yaml

    space = read_space(strict_yaml.load(text), name)
    folder = search_folder(storage, name)
    folder.mkdir(parents=True)
    definition = {
        "format": FORMAT,
        "name": name,
        "id": digest_of(name)[:16],
        "space": space.canonical(),
        "space_sha256": space.digest(),
        "text": text,
        "source": "made_up.yaml",
        "task": {"data": "digits", "model": "mlp"},
        "data_root": None,
        "code": {"model": None, "data": None},
        "tracking_uri": "sqlite:///mlflow.db",
        "experiment": "digits/mlp",
        "created": time.time(),
        "version": "0",
    }
    (folder / SEARCH_FILE).write_text(json.dumps({**definition, **changes}))
    return folder


def result_of(recipe: Mapping[str, Any], metrics: Mapping[str, Any], name: str, sparsity: float) -> dict[str, Any]:
    """A result as a trial leaves it."""
    kept = round(10_000 * (1 - sparsity))
    return {
        "key": digest_of(recipe),
        "preset": None,
        "paradigm": name,
        "mask_sha256": digest_of({"mask": recipe}),
        "weights_sha256": digest_of({"weights": recipe}),
        "environment": {"torch": "2.13.0"},
        "sparsity": {"asked": sparsity, "reached": sparsity},
        "layers": [{"name": "1", "total": 10_000, "kept": kept}],
        "collapsed": [],
        "metrics": dict(metrics),
        "rounds": [],
        "steps_trained": int(metrics["steps_trained"]),
        "steps_reused": 0,
        "digests": {"data": digest_of("digits"), "network": digest_of("mlp")},
        "seconds": 1.0,
    }


@dataclass
class Maker:
    """Writes the records of trials.

    Attributes:
        folder: of the search.
        text: its space.
        rng: decides everything.
        points: measurements in each trial.
    """

    folder: Path
    text: str
    rng: random.Random
    points: int = 5

    def propose(self, number: int) -> tuple[Recorder, dict[str, Any]]:
        """Write what was proposed, and that it was started; control 0 is the dense network."""
        from prune_search.recipe import strict_yaml

        raw = {"preset": "dense"} if number == 0 else strict_yaml.load(self.text)
        drawn = read_space(raw, "made up").fill(Dice(self.rng))
        recipe = drawn.recipe()
        name = paradigm(recipe)
        identity = trial_id(number) if number else "control-dense"
        data = {
            "number": number,
            "name": f"{number:03d}-{name}-s{self.rng.uniform(0.5, 0.98):.2f}" if number else identity,
            "recipe": recipe.canonical,
            "paradigm": name,
            "params": dict(drawn.params),
            "option": drawn.option,
            "digest": digest_of(recipe.canonical),
            "duplicate_of": None,
            "sampler": None,
        }
        recorder = Recorder(self.folder, identity)
        recorder.write("proposed", data)
        recorder.write("started", {"host": "here", "pid": 1, "node": ""})
        return recorder, data

    def metrics(self, step: int) -> dict[str, float]:
        """Metrics that get better."""
        accuracy = 0.97 - 0.5 / (1 + step / 20) - self.rng.uniform(0, 0.05)
        return {"val/accuracy": accuracy, "val/loss": 2 * (1 - accuracy)}

    def measure(self, recorder: Recorder, index: int, sparsity: float) -> dict[str, float]:
        """Write one measurement."""
        step = 20 * (index + 1)
        last = index == self.points - 1
        metrics = {**self.metrics(step), "sparsity": sparsity, "collapsed": 0.0, "steps_trained": float(step)}
        data = {"round": 1, "step": None if last else step, "steps_trained": step, "metrics": metrics}
        recorder.write("measured", {**data, "sparsity": sparsity})
        return metrics

    def trial(self, number: int, status: str = "completed") -> None:
        """Write a whole trial."""
        recorder, proposed = self.propose(number)
        sparsity = self.rng.uniform(0.5, 0.98) if number else 0.0
        metrics: dict[str, float] = {}
        for index in range(self.points if status == "completed" else max(1, self.points // 2)):
            metrics = self.measure(recorder, index, sparsity)
        self.end(recorder, proposed, status, metrics, sparsity)

    def end(
        self, recorder: Recorder, proposed: Mapping[str, Any], status: str, metrics: dict[str, float], sparsity: float
    ) -> None:
        """Write how a trial ended."""
        done = status == "completed"
        tested = {**metrics, "test/accuracy": metrics["val/accuracy"] - 0.01}
        result = result_of(proposed["recipe"], tested, proposed["paradigm"], sparsity) if done else None
        error = {"kind": "nan", "message": "the loss is not a number at step 40"} if status == "failed" else None
        steps = int(metrics["steps_trained"])
        spent = {"steps_trained": steps, "steps_saved": 40 if done else 0, "seconds": 1.0}
        recorder.write("ended", {"status": status, "result": result, "error": error, **spent})


def make_search(storage: Path, name: str = "made-up", trials: int = 24, points: int = 5, control: bool = True) -> Path:
    """A search that is over: a dense control and `trials` trials, of which the 4th failed and the 7th was stopped."""
    text = SPACE.replace("trials: 24", f"trials: {trials}")
    folder = make_definition(storage, name, text)
    maker = Maker(folder, text, random.Random(0), points)
    for number in range(0 if control else 1, trials + 1):
        maker.trial(number, {4: "failed", 7: "stopped"}.get(number, "completed"))
    return folder
