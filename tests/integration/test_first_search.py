"""A small real search, typed as a newcomer types one: Ray, MLflow and training, in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

SPACE = """\
# prune-search launch first.yaml
preset: snip
task: {data: digits, model: {name: mlp, hidden: [16]}, seed: 0}
train: {steps: 1ep}
mask: {sparsity: {hole: uniform, low: 0.5, high: 0.95}}
search: {trials: 2, concurrency: 1, controls: false}
"""


def typed(home: Path, *words: str) -> dict[str, Any]:
    """The JSON object that a command prints."""
    environment = {**os.environ, "XDG_STATE_HOME": str(home / "state"), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "prune_search", *words, "--storage", str(home / "storage"), "--json"]
    done = subprocess.run(command, env=environment, cwd=home, capture_output=True, text=True, check=False, timeout=600)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.mark.services
@pytest.mark.xdist_group("head")
def test_a_search_is_launched_and_compared(tmp_path: Path) -> None:
    (tmp_path / "first.yaml").write_text(SPACE)
    outcome = typed(tmp_path, "launch", "first.yaml")
    assert outcome["trials"] == {"completed": 2, "stopped": 0, "failed": 0, "duplicates": 0}
    rows = typed(tmp_path, "compare", "first")["rows"]
    assert len(rows) == 2
    assert rows[0]["name"] == outcome["best"]["name"]
    assert all(0.5 <= row["metrics"]["sparsity"] <= 0.95 for row in rows)
    assert (tmp_path / "storage" / "mlflow.db").is_file()
