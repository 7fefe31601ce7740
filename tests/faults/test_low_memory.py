"""A node that runs low on memory, where Ray ends workers itself."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from real_search import SMALL

from prune_search.ledger.records import read_search, search_folder

# What counts is the memory of the whole machine: alone on it.
pytestmark = [pytest.mark.faults, pytest.mark.long]

SPACE = f"""\
# prune-search launch plain.yaml
{SMALL}
preset: snip
mask: {{sparsity: {{hole: choice, of: [0.5, 0.7, 0.9]}}}}
search: {{sampler: grid, trials: 3, concurrency: 1, controls: false, max_failures: MAX}}
"""
# Imported by every worker. Some of them take more memory than the node has left for Ray, and wait to be ended.
GREEDY = """\
import os, sys, time
from pathlib import Path

if Path(sys.argv[0]).name == "default_worker.py":
    place = Path(os.environ["GREEDY"])
    left = int(place.read_text())
    if left:
        place.write_text(str(left - 1))
        held = b"x" * int(os.environ["MUCH"])
        time.sleep(120)
"""
# Ray's own processes, the driver and a worker have room in what is left.
MUCH, LEFT = 6 * 2**30, 4 * 2**30


def launched(folder: Path, times: int, most: int) -> subprocess.CompletedProcess[str]:
    """A launch of which so many workers use up the node's memory, as Ray counts it."""
    (folder / "plain.yaml").write_text(SPACE.replace("MAX", str(most)))
    (folder / "greedy.py").write_text(GREEDY)
    (folder / "times").write_text(str(times))
    memory = psutil.virtual_memory()
    if memory.available < 2 * LEFT:
        pytest.skip("the machine has too little free memory")
    used = (memory.total - memory.available + LEFT) / memory.total
    given = {"RAY_memory_usage_threshold": f"{used:.3f}", "RAY_memory_monitor_refresh_ms": "100"}
    mine = {"GREEDY": str(folder / "times"), "MUCH": str(MUCH), "PRUNE_SEARCH_PLUGINS": "greedy"}
    path = os.pathsep.join([str(folder), *sys.path])
    command = [sys.executable, "-m", "prune_search", "launch", "plain.yaml", "--storage", str(folder / "store")]
    environment = {**os.environ, **given, **mine, "PYTHONPATH": path}
    environment.pop("RAY_ADDRESS", None)
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=240, check=False
    )


def test_a_search_goes_on_where_ray_ended_a_worker_for_its_memory(tmp_path: Path) -> None:
    said = launched(tmp_path, 1, 3)
    assert (said.returncode, (tmp_path / "times").read_text()) == (0, "0"), said.stderr
    assert "low on memory" in said.stderr
    assert "Traceback" not in said.stderr
    records = read_search(search_folder(tmp_path / "store", "plain"))
    assert [trial.status for trial in records.numbered()] == ["completed"] * 3


def test_a_search_that_always_runs_out_of_memory_ends_with_what_can_be_done(tmp_path: Path) -> None:
    said = launched(tmp_path, 100, 1)
    assert said.returncode == 2, said.stderr
    assert "2 times in a row with no trial ended" in " ".join(said.stderr.split())
    assert "Traceback" not in said.stderr
