"""Where trials are compared while they retrain: at equal steps, or at equal shares of retrainings of several lengths.

    python tests/benchmarks/equal_maturity.py --data-root FOLDER_OF_FASHION_MNIST

One-shot magnitude pruning of lenet-300-100 to 97 % on Fashion-MNIST, retrained in all the ways of Renda et al. 2020
(2003.02389) that a search over rewind points mixes: the rate or the weights rewound by 1, 2 … K epochs, or fine-tuned.
Each is measured in the middle of its retraining; printed is Spearman's rank correlation of those measurements with the
final validation accuracy over all recipes (1: the order in the middle is the final one), and which place the recipe
that ends best has there. `asha` stops by that order.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import prune_search
from prune_search import Where
from prune_search.trial.callbacks import Observation, Silent

SHARES = (10, 30, 50)
PARTS_OF_EPOCH = (0.25, 0.5, 1.0)
SPARSITY = 0.97
SCHEDULES = ({"name": "cosine", "floor": 0.01}, {"name": "step", "at": ["50%", "75%"], "factor": 0.1})


class Curve(Silent):
    """The validation accuracy in the middle of a retraining, by step."""

    def __init__(self) -> None:
        self.total = self.epoch = 0
        self.seen: dict[int, float] = {}

    def observe_at(self, total: int, epoch: int, settled: int) -> Collection[int]:
        """At the shares and parts of an epoch."""
        self.total, self.epoch = total, epoch
        steps = {self.share(share) for share in SHARES} | {self.part(part) for part in PARTS_OF_EPOCH}
        return {step for step in steps if 0 < step < total}

    def observed(self, seen: Observation) -> None:
        """Keep it."""
        self.seen[seen.step] = seen.metrics["val/accuracy"]

    def share(self, percent: int) -> int:
        """Steps at a share of the retraining."""
        return round(self.total * percent / 100)

    def part(self, part: float) -> int:
        """Steps at a part of an epoch."""
        return round(self.epoch * part)


@dataclass(frozen=True)
class Ended:
    """A recipe that was run.

    Attributes:
        accuracy: at the end.
        curve: before.
    """

    accuracy: float
    curve: Curve


def recipes(epochs: int) -> list[Mapping[str, Any]]:
    """The retrainings, as keys of a recipe: rates and weights rewound, and fine-tuning."""
    found: list[Mapping[str, Any]] = []
    for back in range(1, epochs + 1):
        place = "0it" if back == epochs else f"end-{back}ep"
        found.append({"weights.at": "end", "retrain": {"until": "end", "clock": place}})
        found.append({"weights.at": place, "retrain": {"until": "end"}})
    for length in (1, epochs // 2, epochs):
        found.append({"weights.at": "end", "retrain": {"steps": f"{length}ep", "clock": {"hold": "final"}}})
    return found


def run(epochs: int, schedule: Mapping[str, Any], seed: int, data_root: Path) -> list[Ended]:
    """All of them from one training."""
    base = {
        "task.data": "fashion-mnist",
        "task.model": "lenet-300-100",
        "task.seed": seed,
        "train.steps": f"{epochs}ep",
        "train.batch": 128,
        "train.optimizer": {"name": "sgd", "lr": 0.1, "momentum": 0.9},
        "train.schedule": schedule,
        "mask.sparsity": SPARSITY,
    }
    found = []
    with tempfile.TemporaryDirectory() as storage:
        where = Where(data_root=data_root, storage=Path(storage))
        for keys in recipes(epochs):
            curve = Curve()
            result = prune_search.run("magnitude-after-training", set={**base, **keys}, where=where, sink=curve)
            found.append(Ended(result.metrics["val/accuracy"], curve))
    return found


def order(values: Sequence[float]) -> list[float]:
    """Ranks from 0, the mean one of equal values."""
    below = [sum(other < value for other in values) for value in values]
    return [place + (values.count(value) - 1) / 2 for place, value in zip(below, values, strict=True)]


def correlation(found: Sequence[Ended], middle: Sequence[float]) -> tuple[float, int]:
    """Spearman's rank correlation with the end, and the place from 1 that the best at the end has in the middle."""
    final = [one.accuracy for one in found]
    best = max(range(len(final)), key=final.__getitem__)
    place = 1 + sum(value > middle[best] for value in middle)
    return statistics.correlation(order(final), order(middle)), place


def line(name: str, found: Sequence[Ended], steps: Sequence[int]) -> None:
    """Print one line, of the recipes that were measured there."""
    seen = [(one, one.curve.seen[step]) for one, step in zip(found, steps, strict=True) if step in one.curve.seen]
    rho, place = correlation([one for one, _ in seen], [value for _, value in seen])
    print(f"  at {name:20} {len(seen):3} recipes   rank correlation {rho:5.2f}   the best one's place {place:2}")


def main() -> None:
    """Print the correlations."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-root", type=Path, required=True)
    parser.add_argument("--epochs", type=int, default=6, help="of the training")
    parser.add_argument("--seeds", type=int, default=2)
    given = parser.parse_args()
    for schedule in SCHEDULES:
        for seed in range(given.seeds):
            found = run(given.epochs, schedule, seed, given.data_root)
            final, lengths = [one.accuracy for one in found], [one.curve.total for one in found]
            how = f"{len(found)} recipes of {min(lengths)} to {max(lengths)} steps of retraining"
            best = f"final accuracy {100 * min(final):.2f} to {100 * max(final):.2f}"
            print(f"{schedule['name']}, seed {seed}: {how}, {best}", flush=True)
            for part in PARTS_OF_EPOCH:
                line(f"{part:g} epochs", found, [one.curve.part(part) for one in found])
            for share in SHARES:
                line(f"{share} % of its own", found, [one.curve.share(share) for one in found])


if __name__ == "__main__":
    main()
