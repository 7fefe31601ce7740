"""What a trial costs that finds all its training stored: a lottery ticket of twelve rounds, read from the storage.

    python tests/benchmarks/stored_trial.py --data-root FOLDER_OF_FASHION_MNIST

Prints milliseconds (median of ten) with the states read from files, and with those that the process has met before held
in memory, as a search's workers do.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import torch

from prune_search.api.target import read_target
from prune_search.storage.cache import CACHE, WORKER_BYTES
from prune_search.trial.data_and_network import Code, read_data
from prune_search.trial.run import run_trial
from prune_search.trial.setup import prepare

RECIPE = {
    "task.data": "fashion-mnist",
    "task.model": "lenet-300-100",
    "train.steps": "60it",
    "train.batch": 128,
    "weights.at": "2it",
    "rounds": 12,
}
RUNS = 10


def main() -> None:
    """Print the two figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-root", type=Path, required=True)
    given = parser.parse_args()
    recipe = read_target("lottery-ticket", list(RECIPE.items()))[0].only_recipe()
    device, code = torch.device("cpu"), Code(None, None)
    data = read_data(recipe, given.data_root, code)
    _ = data.digest
    with tempfile.TemporaryDirectory() as storage:

        def run() -> float:
            begun = time.perf_counter()
            setup = prepare(recipe, device, given.data_root, code, data=data)
            run_trial(setup, Path(storage), test=False)
            return 1000 * (time.perf_counter() - begun)

        trained = run()
        print(f"a trial of 12 rounds, {recipe.train.steps} each: {trained:,.0f} ms where all is trained")
        for name, most in (("states read from files", 0), ("states held in memory", WORKER_BYTES)):
            CACHE.allow(most)
            run()
            print(f"  all stored, {name:25} {statistics.median(run() for _ in range(RUNS)):6.1f} ms")


if __name__ == "__main__":
    main()
