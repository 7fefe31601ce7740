"""The script that measures a GPU runs here on the CPU, with torch alone."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[1] / "benchmarks" / "gpu" / "all.py"
# What is not on a machine with torch alone cannot be imported.
ALONE = """\
import runpy, sys
for name in ("ray", "optuna", "mlflow"):
    sys.modules[name] = None
sys.argv = [{script!r}, "--device", "cpu", "--dry"]
runpy.run_path({script!r}, run_name="__main__")
"""


@pytest.mark.slow
def test_every_part_runs_without_ray_optuna_and_mlflow() -> None:
    command = [sys.executable, "-c", ALONE.format(script=str(SCRIPT))]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for part in ("training", "masks", "2:4", "compact", "packed"):
        assert f"\n{part}\n" in done.stdout
    assert "NO" not in done.stdout, "a mask was another one when it was found again"
    assert "our loop / bare" in done.stdout
    assert "trials at once" in done.stdout
