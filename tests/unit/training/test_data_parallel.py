"""Several workers that train one network together, each in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

WORKER = Path(__file__).parents[2] / "data_parallel_worker.py"


def run_workers(folder: Path, size: int, *more: str) -> tuple[list[int], dict[str, Any], list[str]]:
    """The workers' exit codes, what the leader printed, and what all said."""
    workers = [
        subprocess.Popen(
            [sys.executable, WORKER, str(rank), str(size), folder / "meet", *more],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(size)
    ]
    told = [worker.communicate(timeout=120) for worker in workers]
    return [worker.returncode for worker in workers], json.loads(told[0][0] or "{}"), [err[-2000:] for _, err in told]


@pytest.mark.slow
@pytest.mark.parametrize("size", [1, 2, 3])
def test_the_gradients_of_a_batch_are_those_of_one_worker(size: int, tmp_path: Path) -> None:
    codes, found, said = run_workers(tmp_path, size)
    assert codes == [0] * size, said
    assert found["unused"]
    assert not found["broken"]
    errors, own = found["errors"], found["own"]
    assert set(errors) == set(own)
    assert {"loss", "first.1.running_var", "second.1.running_mean", "head.bias"} <= set(errors)
    # As near to the gradients in float64 as one worker's in float32 are, within a factor.
    assert {name: error for name, error in errors.items() if error > 2e-5 + 5 * own[name]} == {}


@pytest.mark.slow
def test_all_workers_have_the_leaders_teacher_and_its_loss(tmp_path: Path) -> None:
    codes, found, said = run_workers(tmp_path, 2, "taught")
    assert codes == [0, 0], said
    assert {" loss", "retrain loss", "head.weight", "first.0.weight"} <= set(found["errors"])
    own = found["own"]
    assert {name: error for name, error in found["errors"].items() if error > 2e-5 + 5 * own[name]} == {}


@pytest.mark.slow
def test_all_workers_have_the_structure_of_the_leaders_network(tmp_path: Path) -> None:
    codes, found, said = run_workers(tmp_path, 2, "fused")
    assert codes == [0, 0], said
    assert {"loss 0", "loss 1", "loss 2", "head.weight"} <= set(found["errors"])
    own = found["own"]
    assert {name: error for name, error in found["errors"].items() if error > 2e-5 + 5 * own[name]} == {}


@pytest.mark.slow
def test_a_worker_that_is_gone_is_no_error_of_the_trial(tmp_path: Path) -> None:
    codes, found, said = run_workers(tmp_path, 2, "lost")
    assert codes == [0, 1], said
    assert found["broken"]
    assert found["said"].startswith("a data-parallel worker was lost: ")
