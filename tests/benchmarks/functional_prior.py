"""What a functional prior changes in the accuracy and the calibration of networks that are pruned at initialization.

    python tests/benchmarks/functional_prior.py | tee tests/benchmarks/records/functional_prior.log

SNIP on digits at three sparsities: weights drawn by He's rule or from a functional prior, and with the latter weight
decay as usual or from the prior. Figures are of validation data: mean and standard deviation over the seeds.
"""

from __future__ import annotations

import argparse
import platform
import statistics
import time
from collections.abc import Mapping
from typing import Any

import torch

from prune_search.recipe.space import read_space
from prune_search.trial.run import run_trial
from prune_search.trial.setup import prepare

METRICS = ("val/accuracy", "val/nll", "val/ece", "val/brier")
SPARSITIES = (0.9, 0.95, 0.98)
PRIOR: Mapping[str, Any] = {"name": "functional-prior", "gp": {"kernel": "rbf"}}
ARMS: Mapping[str, tuple[Any, Any]] = {
    "kaiming": ("kaiming", 5.0e-4),
    "functional-prior": (PRIOR, 5.0e-4),
    "functional-prior, decay from-prior": (PRIOR, "from-prior"),
}


def trial(arm: str, sparsity: float, seed: int, epochs: int) -> tuple[Mapping[str, float], Mapping[str, Any]]:
    """The metrics of one trial, and what its initializer found."""
    init, decay = ARMS[arm]
    optimizer = {"name": "sgd", "lr": 0.05, "momentum": 0.9, "weight_decay": decay}
    raw = {
        "preset": "snip",
        "task": {"data": "digits", "model": "mlp", "seed": seed},
        "train": {"steps": f"{epochs}ep", "batch": 64, "init": init, "optimizer": optimizer},
        "mask": {"sparsity": sparsity},
    }
    setup = prepare(read_space(raw, "functional_prior").only_recipe(), torch.device("cpu"))
    result = run_trial(setup, None, test=False, asked=METRICS)
    return result.metrics, result.initializer


def main() -> None:
    """Print a row per sparsity and arm."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=20)
    args = parser.parse_args()
    torch.set_num_threads(1)
    begun = time.monotonic()
    print(f"torch {torch.__version__}, {platform.machine()}, cpu, one thread; digits, mlp, snip at initialization")
    print(
        f"{args.epochs} epochs at batch 64, sgd 0.05 with momentum 0.9; {args.seeds} seeds: mean ± standard deviation"
    )
    told = False
    print(f"{'sparsity':>8}  {'initializer':<35}" + "".join(f"{name:>20}" for name in METRICS), flush=True)
    for sparsity in SPARSITIES:
        for arm in ARMS:
            rows = [trial(arm, sparsity, seed, args.epochs) for seed in range(args.seeds)]
            cells = []
            for name in METRICS:
                values = [metrics[name] for metrics, _ in rows]
                cells.append(f"{statistics.mean(values):.4f} ± {statistics.stdev(values):.4f}")
            print(f"{sparsity:>8}  {arm:<35}" + "".join(f"{cell:>20}" for cell in cells), flush=True)
            if rows[0][1] and not told:
                told, found = True, rows[0][1]
                sigmas = "  ".join(f"{name} {one['sigma']:.3f}" for name, one in found["prior"].items())
                start, end = found["distance_start"], found["distance_end"]
                print(f"          prior: distance {start:.3f} → {end:.3f}; σ {sigmas}", flush=True)
    print(f"{time.monotonic() - begun:.0f} s")


if __name__ == "__main__":
    main()
