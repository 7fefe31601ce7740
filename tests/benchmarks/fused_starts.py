"""A start from fused layers against a random start of the same depth: Ghods et al. 2020, 2001.10509.

    python tests/benchmarks/fused_starts.py
    python tests/benchmarks/fused_starts.py --data fashion-mnist --data-root DATA --steps 50ep --samples 55000

The log of a run lies in tests/benchmarks/records/fuse_init.log.

A network of four convolutions is trained, its last convolution is fused into the output layer, and what is left is
trained as long again; three times. Beside it, every network begins anew with random weights (``reinit`` after
``fuse``).
Network, batch, optimizer and rates are the paper's as released. The first command is a small one on digits; the second
has the paper's data, 50 epochs (the rates fall at the same shares of any length), and all training examples
for the fit.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from prune_search.recipe.space import read_space
from prune_search.trial.callbacks import Observation, Silent
from prune_search.trial.run import run_trial
from prune_search.trial.setup import prepare

STARTS: dict[str, list[str]] = {"fused": [], "random": ["reinit"]}
ROUNDS = 3


def recipe(options: argparse.Namespace, seed: int, more: list[str]) -> dict[str, Any]:
    """The preset with the paper's network and training, but for its length."""
    optimizer = {"name": "rmsprop", "lr": 1.0e-3, "weight_decay": 1.0e-4}
    schedule = {"name": "step", "at": ["32%", "52%"], "rates": [1.0e-3, 5.0e-4, 3.0e-4]}
    return {
        "preset": "fuse-init",
        "task": {"data": options.data, "model": "narrow-conv", "seed": seed},
        "train": {"steps": options.steps, "batch": 64, "optimizer": optimizer, "schedule": schedule},
        "weights": {"at": "end", "transform": [{"name": "fuse", "samples": options.samples}, *more]},
    }


class Begun(Silent):
    """Keeps the validation loss after the first step of each retraining."""

    def __init__(self) -> None:
        self.losses: list[float] = []

    def observe_at(self, total: int, epoch: int, settled: int) -> tuple[int, ...]:
        return (1,)

    def observed(self, seen: Observation) -> None:
        self.losses.append(seen.metrics["val/loss"])


def main() -> None:
    """Print one line per network and a table of means."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", default="digits")
    parser.add_argument("--data-root", type=Path)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--steps", default="10ep")
    parser.add_argument("--samples", type=int, default=5000)
    options = parser.parse_args()
    found: dict[tuple[int, str], list[tuple[float, float, float]]] = {}
    begun = time.monotonic()
    for seed in range(options.seeds):
        with tempfile.TemporaryDirectory() as storage:
            for start, more in STARTS.items():
                sink = Begun()
                given = read_space(recipe(options, seed, more), "fused_starts").only_recipe()
                setup = prepare(given, torch.device("cpu"), options.data_root)
                result = run_trial(setup, Path(storage), sink, test=False)
                for number, (item, loss) in enumerate(zip(result.rounds, sink.losses, strict=True), start=1):
                    after, accuracy = item.metrics["val/loss"], 100 * item.metrics["val/accuracy"]
                    found.setdefault((number, start), []).append((loss, after, accuracy))
                    size = item.receipt.parameters[1] if item.receipt.parameters else 0
                    print(
                        f"seed {seed}  {start:6}  {4 - number} conv, {size:6,} parameters  validation: loss {loss:.3f} "
                        f"after 1 step, {after:.3f} at the end, accuracy {accuracy:.2f} %",
                        flush=True,
                    )
    print(f"\nmean ± deviation over {options.seeds} seeds, {options.steps} per network, on {options.data}")
    for number in range(1, ROUNDS + 1):
        for start in STARTS:
            columns = zip(*found[number, start], strict=True)
            cells = [f"{statistics.mean(column):7.3f} ± {statistics.pstdev(column):.3f}" for column in columns]
            print(f"{4 - number} conv  {start:6}  loss {cells[0]}  at the end {cells[1]}  accuracy {cells[2]} %")
        pairs = zip(found[number, "fused"], found[number, "random"], strict=True)
        better = [(one[0] < other[0], one[2] > other[2]) for one, other in pairs]
        first, last = (sum(column) for column in zip(*better, strict=True))
        print(f"        fused has the smaller loss after 1 step in {first} seeds, the higher accuracy in {last}")
    print(f"{time.monotonic() - begun:.0f} s")


if __name__ == "__main__":
    main()
