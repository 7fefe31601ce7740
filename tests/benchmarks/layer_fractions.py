"""Who finds the better layer fractions at equal evaluations: a knapsack, ppo-lagrangian, TPE, or uniform draws.

    python tests/benchmarks/layer_fractions.py [--data-root FOLDER_OF_FASHION_MNIST]

A trained network keeps a tenth of its parameters: by magnitude within layers, whose fractions are searched for. Each
evaluation is one masked network on the validation data without training (the knapsack: on as many training examples,
each layer alone), and all have equally many. Then every network is trained for some epochs under its mask. Printed are
the validation accuracy right after pruning, the accuracies after training, what is kept and how many episodes met the
budget: mean ± standard deviation over the seeds, and each seed's. The data are digits (lenet-5), and with
``--data-root`` Fashion-MNIST too (lenet-300-100).
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from prune_search.recipe.space import read_space
from prune_search.trial.result import Result
from prune_search.trial.run import run_trial
from prune_search.trial.setup import prepare

BUDGET = {"parameters": 0.1}
SGD = {"name": "sgd", "lr": 0.05, "momentum": 0.9}


@dataclass(frozen=True)
class Problem:
    """A trained network.

    Attributes:
        name: printed.
        task, train: blocks of the recipe.
        layers: that take part.
        levels: that the knapsack tries of each; ``levels * layers`` evaluations for everyone.
        batches: of training examples, about as many as there are validation examples.
        retrain: training under the mask.
    """

    name: str
    task: dict[str, Any]
    train: dict[str, Any]
    layers: int
    levels: int
    batches: int
    retrain: str

    @property
    def evaluations(self) -> int:
        """Networks that are measured."""
        return self.levels * self.layers

    def scopes(self) -> dict[str, dict[str, Any]]:
        """The scopes by the name that is printed."""
        episodes = {"budget": BUDGET, "episodes": self.evaluations}
        return {
            "knapsack": {"name": "knapsack", "budget": BUDGET, "levels": self.levels},
            "ppo-lagrangian": {"name": "ppo-lagrangian", "n_steps": 32, "lr": 3.0e-3, **episodes},
            "tpe": {"name": "fractions-study", "sampler": "tpe", **episodes},
            "random": {"name": "fractions-study", "sampler": "random", **episodes},
        }

    def run(self, scope: dict[str, Any], seed: int, folder: Path, data_root: Path | None, retrain: bool) -> Result:
        """One network, with the training under its mask or without."""
        raw = {
            "task": {**self.task, "seed": seed},
            "train": self.train,
            "mask": {
                "at": "end",
                "criterion": "magnitude",
                "sparsity": {"by": "scope"},
                "scope": scope,
                "score": {"batches": self.batches, "mode": "eval"},
            },
            "weights": {"at": "end"},
            "retrain": {"steps": self.retrain, "clock": {"hold": 0.01}} if retrain else "none",
        }
        setup = prepare(read_space(raw, "a benchmark").only_recipe(), torch.device("cpu"), data_root)
        return run_trial(setup, folder)


DIGITS = Problem(
    "digits, lenet-5",
    {"data": "digits", "model": "lenet-5"},
    {"steps": "20ep", "batch": 64, "optimizer": SGD},
    layers=5,
    levels=60,
    batches=3,
    retrain="5ep",
)
FASHION = Problem(
    "Fashion-MNIST, lenet-300-100",
    {"data": "fashion-mnist", "model": "lenet-300-100"},
    {"steps": "3ep", "batch": 128, "optimizer": SGD},
    layers=3,
    levels=64,
    batches=39,
    retrain="1ep",
)


def shown(values: Sequence[float]) -> str:
    """Mean, deviation and the single values, in percent."""
    mean, spread = statistics.mean(values), statistics.stdev(values) if len(values) > 1 else 0.0
    return f"{mean:6.2f} ±{spread:5.2f} ({', '.join(f'{value:.2f}' for value in values)})"


def compare(problem: Problem, seeds: Sequence[int], data_root: Path | None) -> None:
    """Run everything of a problem, and print it."""
    print(f"\n{problem.name}: {problem.evaluations} evaluations each, seeds {', '.join(map(str, seeds))}")
    columns = ("val, pruned", "val, trained", "test, trained", "kept")
    print(f"{'':16}" + "".join(f"{column:>36}" for column in columns) + "   met the budget")
    trained: dict[str, list[float]] = {}
    pruned: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory(prefix="prune-search-") as folder:
        for name, scope in problem.scopes().items():
            rows, met = [], []
            for seed in seeds:
                before = problem.run(scope, seed, Path(folder), data_root, retrain=False)
                after = problem.run(scope, seed, Path(folder), data_root, retrain=True)
                assert before.masks.sha256 == after.masks.sha256
                accuracies = (before.metrics["val/accuracy"], after.metrics["val/accuracy"])
                rows.append([100 * one for one in (*accuracies, after.metrics["test/accuracy"])])
                rows[-1].append(100 * after.receipt.units_kept / sum(layer.total for layer in after.receipt.layers))
                met.append(f"{after.receipt.search['feasible']:.0f}" if after.receipt.search else "by design")
            by_column = list(zip(*rows, strict=True))
            pruned[name], trained[name] = list(by_column[0]), list(by_column[1])
            print(f"{name:16}" + "".join(f"{shown(one):>36}" for one in by_column) + f"   {', '.join(met)}", flush=True)
    for what, found in (("right after pruning", pruned), ("after training under the mask", trained)):
        order = sorted(found, key=lambda name: -statistics.mean(found[name]))
        wins = ", ".join(f"{name} {statistics.mean(found[name]):.2f}" for name in order)
        print(f"By mean validation accuracy {what}: {wins}.")
    for other in ("knapsack", "tpe", "random"):
        better = sum(one > two for one, two in zip(pruned["ppo-lagrangian"], pruned[other], strict=True))
        later = sum(one > two for one, two in zip(trained["ppo-lagrangian"], trained[other], strict=True))
        print(f"ppo-lagrangian is above {other} in {better} of {len(seeds)} seeds pruned, and in {later} trained.")


def main() -> None:
    """Read the arguments and run."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--data-root", type=Path, help="folder of Fashion-MNIST; without it only digits are run")
    parser.add_argument("--seeds", type=int, default=3)
    given = parser.parse_args()
    torch.set_num_threads(1)
    for problem in (DIGITS, *([FASHION] if given.data_root else [])):
        compare(problem, range(given.seeds), given.data_root)


if __name__ == "__main__":
    main()
