"""Masks of sharded networks, each worker a process of its own, against those of the same networks whole."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from worker_processes import run_workers

WORKER = "sharded_worker.py"
WEIGHTS = 3768
CASES = (
    "magnitude",
    "keeps ties",
    "l2",
    "random",
    "erk",
    "floors",
    "2:4",
    "3 of 8",
    "snip",
    "iterated",
    "force",
    "flow",
)
TRAININGS = ("sgd, 1 batches", "adamw, 2 batches", "gradual", "rigl")
WHOLE = "model: is sharded over workers, and this needs the whole network; find_mask, MaskHook and the dynamics gradual"


# A worker takes long to start: each start shows everything.
@pytest.mark.slow
def test_sharded_networks_are_pruned_and_trained_like_whole_ones(tmp_path: Path) -> None:
    found = run_workers(WORKER, tmp_path, 2, "masks", "training", "store", "refusals")
    check_masks(found["masks"])
    check_training(found["training"])
    check_refusals(found["refusals"])
    # A single worker reads what two have stored.
    check_states(found["store"], run_workers(WORKER, tmp_path, 1, "read")["read"])


def check_masks(found: dict[str, Any]) -> None:
    """Bits, counts and receipts are equal."""
    assert tuple(found) == CASES
    for name, (sharded, whole) in found.items():
        assert sharded == whole, name
        assert 0 < sum(whole["kept"].values()) < WEIGHTS, name
    assert found["2:4"][0]["reached"][0] == 0.5
    assert list(found["3 of 8"][0]["left_out"]) == ["first.weight"]


def check_training(found: dict[str, Any]) -> None:
    """Masks are equal, losses within 1e-4, and what is removed stays removed, in the optimizer too."""
    assert tuple(found) == TRAININGS
    for name, (sharded, whole) in found.items():
        assert sharded["mask"] == whole["mask"], name
        assert sharded["kept"] == whole["kept"], name
        assert len(sharded["losses"]) == 8
        assert sharded["losses"] == pytest.approx(whole["losses"], rel=1e-4), name
    for name in TRAININGS[:2]:
        assert len(found[name][0]["held"]) >= 10
        assert all(found[name][0]["held"]), name
    kept = found["gradual"][0]["kept"]
    assert kept[0] == WEIGHTS > kept[2] > kept[4] > kept[6] == kept[7] == 377
    assert set(found["rigl"][0]["kept"]) == {377}


def check_states(stored: dict[str, Any], read: dict[str, Any]) -> None:
    """Weights, momentum and mask are bit for bit what was stored, whatever the number of workers."""
    assert read["digests"] == stored["digests"]
    assert read["kept"] == stored["kept"]
    assert read["losses"] == pytest.approx(stored["losses"], rel=1e-5)


def check_refusals(found: dict[str, str]) -> None:
    """What cannot be done on shards is said, all at once."""
    needs = "does not go with a sharded network"
    assert found["criterion"].startswith(
        f"mask.criterion: grasp {needs}: its scores need whole layers; "
        "these go with it: all, edge-popup, l1, l2, magnitude, random, snip, synflow"
    )
    assert found["granularity"].startswith(f"mask.granularity: filter {needs}: its units span rows")
    assert [line.split(":")[0] for line in found["several"].splitlines()] == [
        "mask.criterion",
        "mask.score.normalization",
        "mask.scope.exclude",
    ]
    for name in ("budget", "score", "snfs"):
        assert found[name].startswith(WHOLE), name
    assert "head.weight: not sharded, while other weights are" in found["partly"]
