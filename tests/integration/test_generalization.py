"""Pruned at random before training, a network generalizes better, until its mask loses the signal: then it guesses.

The two regimes of Yang et al. (2301.00335), on the data and the network of its theory, at the sizes of the preset; a
seed draws data, weights and mask. `tests/benchmarks/generalization.py` has the whole curve.
"""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import Any

import pytest

from prune_search.api.run import run
from prune_search.api.where import Where
from prune_search.trial.result import Result

pytestmark = pytest.mark.slow
SEEDS = (0, 1, 2)


def trained(seed: int, sparsity: float, storage: Path, **train: Any) -> Result:
    raw = {
        "preset": "random-global",
        "task": {"data": {"name": "sparse-signal", "seed": seed}, "seed": seed},
        "mask": {"sparsity": sparsity},
        "search": {"constraints": ["train/accuracy >= 99%"]},
    }
    return run({**raw, **({"train": train} if train else {})}, where=Where(storage=storage))


def signal_weights(result: Result) -> int:
    (mask,) = dict(result.masks).values()
    return sum(int(mask.view(2, 20, 1000)[label, :, label].sum()) for label in (0, 1))


def test_mild_pruning_generalizes_better_and_over_pruning_fits_and_guesses(tmp_path: Path) -> None:
    found = {s: [trained(seed, s, tmp_path) for seed in SEEDS] for s in (0.0, 0.8, 0.99)}
    test = {s: statistics.fmean(one.test_metrics["test/accuracy"] for one in results) for s, results in found.items()}
    # All of them fit.
    assert {one.metrics["train/accuracy"] for results in found.values() for one in results} == {1.0}
    assert test[0.8] > test[0.0] + 0.03
    # 2,000 test examples: a guess is within 0.5 ± 0.045 with four deviations.
    blind = [one for one in found[0.99] if signal_weights(one) == 0]
    assert blind
    for one in blind:
        assert one.test_metrics["test/accuracy"] == pytest.approx(0.5, abs=0.045)
        # The kept weights are many more than the ten examples, which is why they fit.
        assert one.receipt.units_kept == 400
    assert all(signal_weights(one) == 40 for one in found[0.0])
