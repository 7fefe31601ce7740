"""Real searches of 24 trials on Fashion-MNIST: `guided` against other samplers at equal paid steps.

    python tests/benchmarks/real_searches.py --data-root DATA --storage FOLDER \\
        | tee tests/benchmarks/records/real_searches.log

Each search runs by the command line as a user would start it, over tests/benchmarks/quality/real.yaml, with a storage
of its own, so that none has anything from another. Paid steps are those that a search has trained until a trial ended;
steps that an earlier trial of the same search had stored are free. Shown is the best validation accuracy measured
within so many steps, and what the network that the search recommends at its end has on the test set. The searches of
one seed start from the same w(0). The storages keep what was trained: after an interruption the same command goes on.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from pathlib import Path
from typing import Any

from lottery_ticket_search import verb

from prune_search.ledger.account import account_of
from prune_search.ledger.records import read_search, search_folder

SPACE = Path(__file__).parent / "quality" / "real.yaml"
METRIC = "val/accuracy"


def searched(sampler: str, seed: int, options: argparse.Namespace) -> dict[str, Any]:
    """The board of one search, run to its end."""
    name = f"{sampler}-{seed}"
    own = argparse.Namespace(storage=str(Path(options.storage) / name))
    states = {one["name"]: one["state"] for one in verb("list", options=own)["searches"]}
    if name not in states:
        named = {"name": sampler, **({"startup": options.startup} if sampler == "tpe" else {})}
        sets = ["--set", f"task.seed={seed}", "--set", f"search.sampler={json.dumps(named)}"]
        given = ["--name", name, "--seed", str(seed), "--trials", str(options.trials), "--data-root", options.data_root]
        verb("launch", str(SPACE), *given, *sets, options=own)
    elif states[name] != "finished":
        verb("resume", name, options=own)
    board = verb("compare", name, options=own)
    report = verb("export", name, "--to", str(Path(options.storage) / f"{name}-best"), options=own)
    return {**board, "test": report["metrics"]["test/accuracy"]}


def course(storage: Path, name: str) -> list[tuple[int, float]]:
    """(paid steps, best accuracy measured so far) after every trial that ended, in the order in which they did."""
    trials = [one for one in read_search(search_folder(storage, name)).numbered() if one.ended is not None]
    found: list[tuple[int, float]] = []
    paid, best = 0, 0.0
    for trial in sorted(trials, key=lambda one: one.ended.time if one.ended else 0.0):
        paid += account_of(trial).trained
        best = max(best, trial.metrics.get(METRIC, 0.0))
        found.append((paid, best))
    return found


def reached(points: list[tuple[int, float]], steps: int) -> float:
    """The best accuracy within some paid steps; 0 where no trial has ended."""
    return max((best for paid, best in points if paid <= steps), default=0.0)


def main() -> None:
    """Print a line per search, then a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-root", required=True)
    parser.add_argument("--storage", required=True, help="folder of the searches' storages")
    parser.add_argument("--samplers", nargs="+", default=["guided", "tpe"])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--trials", type=int, default=24)
    parser.add_argument("--startup", type=int, default=8, help="random trials of tpe")
    parser.add_argument("--budgets", type=int, nargs="+", default=[4000, 8000, 16000, 24000])
    options = parser.parse_args()
    figures: dict[str, list[list[float]]] = {name: [] for name in options.samplers}
    for seed in options.seeds:
        for sampler in options.samplers:
            board = searched(sampler, seed, options)
            points = course(Path(options.storage) / f"{sampler}-{seed}", f"{sampler}-{seed}")
            row = [100 * reached(points, steps) for steps in options.budgets]
            figures[sampler].append([*row, 100 * board["test"]])
            shown = "  ".join(f"{one:6.2f}" for one in row)
            print(
                f"seed {seed}  {sampler:8} {points[-1][0]:7,} steps  {shown}  test {100 * board['test']:.2f}",
                flush=True,
            )
    print(f"\nbest {METRIC} (%) within so many paid steps, mean ± deviation over {len(options.seeds)} seeds")
    print(f"{'':8} " + " ".join(f"{steps:>14,}" for steps in options.budgets) + "  test, recommended")
    for name, rows in figures.items():
        cells = [f"{statistics.mean(cell):7.2f} ± {statistics.stdev(cell):4.2f}" for cell in zip(*rows, strict=True)]
        print(f"{name:8} " + " ".join(cells))
    sys.stdout.flush()


if __name__ == "__main__":
    main()
