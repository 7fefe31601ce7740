"""Trials whose network is sharded over their workers, each a process of its own, against those of one worker."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from worker_processes import run_workers

WORKER = "sharded_trial_worker.py"
PAPERS = {"magnitude", "snip", "synflow", "rigl", "set", "gradual", "greg-1", "greg-2", "edge-popup", "lottery-ticket"}


# A worker takes long to start: each start shows everything.
@pytest.mark.slow
def test_sharded_trials_find_what_one_worker_finds(tmp_path: Path) -> None:
    found = run_workers(WORKER, tmp_path, 2, "trials", "stop", "go-on")
    check_trials(**found["trials"])
    check_stored(found["stop"])
    went_on = [found["go-on"], *(run_workers(WORKER, tmp_path, size, "go-on")["go-on"] for size in (3, 1))]
    check_went_on(went_on, found["stop"]["trained"])


def check_trials(together: dict[str, Any], stored: dict[str, Any], alone: dict[str, Any]) -> None:
    """Masks and receipts are equal, losses within 1e-4, and each worker holds about half of the network."""
    assert together.keys() == alone.keys() >= PAPERS
    for name, sharded in together.items():
        whole = alone[name]
        assert sharded["start"] == whole["start"], name
        if name == "bf16":
            # Of three digits, which masks and single examples can hang on.
            assert sharded["metrics"]["val/loss"] == pytest.approx(whole["metrics"]["val/loss"], rel=1e-3)
        else:
            assert sharded["masks"] == whole["masks"], name
            assert sharded["receipt"] == whole["receipt"], name
            assert sharded["metrics"] == pytest.approx(whole["metrics"], rel=1e-4), name
            assert sharded["watched"] == pytest.approx(whole["watched"], rel=1e-4), name
        own, everything = sharded["held"]
        assert sharded["shards"]
        assert everything == whole["held"][0] == whole["held"][1]
        assert own <= 0.6 * everything, name
    assert len(together["rigl"]["watched"]) == 1
    assert len(together["lottery-ticket"]["masks"]) == 2
    # The same workers again: everything is there.
    for name, again in stored.items():
        assert again["steps"][0] == 0
        assert (again["masks"], again["weights"]) == (together[name]["masks"], together[name]["weights"])


def check_stored(found: dict[str, Any]) -> None:
    """The file of a state is byte for byte the one that a single process writes of the same tensors."""
    assert found["trained"].keys() == {"rigl", "edge-popup"}
    assert len(found["same bytes"]) >= 4
    assert all(found["same bytes"])
    shapes = found["shapes"]
    assert shapes["hook/mask/mask/conv2.weight"] == shapes["optimizer/conv2.weight/exp_avg_sq"] == [6, 4, 3, 3]
    assert shapes["hook/ema/conv2.weight"] == [6, 4, 3, 3]
    # Scores of weights are a list, and so is the momentum of their optimizer.
    (layer, *_) = [key for key in shapes if key.startswith("hook/learned/")]
    name = layer.removeprefix("hook/learned/")
    assert len(shapes[layer]) == 1
    assert shapes[f"optimizer/{name}/momentum_buffer"] == shapes[layer]


def check_went_on(found: list[dict[str, Any]], trained: dict[str, int]) -> None:
    """Two, three and one workers train only what was left, and come to the same network but for rounding."""
    for name, before in trained.items():
        two = found[0][name]
        assert 0 < before < 8
        for other in found:
            assert other[name]["steps"] == [8 - before, before, 0]
            assert other[name]["masks"] == two["masks"]
            assert other[name]["metrics"] == pytest.approx(two["metrics"], rel=1e-4)
        assert [other[name]["shards"] for other in found] == [True, True, False]
    assert [other["rigl"]["held"][0] for other in found] == [261, 198, 522]
