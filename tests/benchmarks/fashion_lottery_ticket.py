"""The lottery ticket on Fashion-MNIST, against the dense network of equal total steps and a shuffled mask.

    python tests/benchmarks/fashion_lottery_ticket.py --data-root DATA

The log of a run lies in tests/benchmarks/records/.

Everything goes through the command line, as a user would type it. The dense network is trained for as many steps as
the whole chain of rounds; the shuffled mask has the ticket's exact count in every layer.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from typing import Any

RUNS = {
    "lottery-ticket": ["lottery-ticket"],
    "shuffled mask, same densities": ["lottery-ticket", "--set", "mask.control=shuffle"],
    "dense, same total steps": ["dense", "--set", "train.steps=120ep"],
    "dense, one training": ["dense"],
}


def run(arguments: list[str], options: argparse.Namespace, seed: int) -> dict[str, Any]:
    """One `prune-search run`, its JSON."""
    command = [sys.executable, "-m", "prune_search", "run", *arguments, "--data", "fashion-mnist"]
    command += ["--model", "lenet-300-100", "--set", f"task.seed={seed}", "--json"]
    command += ["--data-root", options.data_root, "--storage", options.storage]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def line(seed: int, name: str, result: dict[str, Any]) -> str:
    """What is shown of a run."""
    accuracy, steps = 100 * result["metrics"]["test/accuracy"], int(result["metrics"]["steps_trained"])
    return (
        f"seed {seed}  {name:32} test {accuracy:6.2f} %  sparsity {result['sparsity']['reached']:.4f}  "
        f"steps {steps}  trained here {result['steps_trained']}  {result['seconds']:.0f} s"
    )


def show_means(accuracy: dict[str, list[float]]) -> None:
    """Print a table of means of the percentages of test accuracy."""
    print(f"\n{'':32} mean test accuracy ± deviation over {min(map(len, accuracy.values()))} seeds")
    for name, values in accuracy.items():
        deviation = statistics.stdev(values) if len(values) > 1 else 0.0
        print(f"{name:32} {statistics.mean(values):6.2f} ± {deviation:.2f} %")


def main() -> None:
    """Print one line per run and a table of means."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data-root", required=True)
    parser.add_argument("--storage", default="prune-search-store")
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args()
    accuracy: dict[str, list[float]] = {name: [] for name in RUNS}
    for seed in range(options.seeds):
        for name, arguments in RUNS.items():
            result = run(arguments, options, seed)
            accuracy[name].append(100 * result["metrics"]["test/accuracy"])
            print(line(seed, name, result), flush=True)
    show_means(accuracy)
    ticket, dense = (statistics.mean(accuracy[name]) for name in ("lottery-ticket", "dense, same total steps"))
    print(f"\nlottery ticket minus dense of equal total steps: {ticket - dense:+.2f} points")


if __name__ == "__main__":
    main()
