"""Several workers that train one network together, each in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

WORKER = Path(__file__).parents[2] / "crew_worker.py"


@pytest.mark.parametrize("size", [1, 2, 3])
def test_the_gradients_of_a_batch_are_those_of_one_worker(size: int, tmp_path: Path) -> None:
    workers = [
        subprocess.Popen(
            [sys.executable, WORKER, str(rank), str(size), tmp_path / "meet"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(size)
    ]
    told = [worker.communicate(timeout=120) for worker in workers]
    assert [worker.returncode for worker in workers] == [0] * size, [err[-2000:] for _, err in told]
    found = json.loads(told[0][0])
    assert found["unused"]
    assert not found["broken"]
    errors, own = found["errors"], found["own"]
    assert set(errors) == set(own)
    assert {"loss", "first.1.running_var", "second.1.running_mean", "head.bias"} <= set(errors)
    # As near to the gradients in float64 as one worker's in float32 are, within a factor.
    assert {name: error for name, error in errors.items() if error > 2e-5 + 5 * own[name]} == {}
