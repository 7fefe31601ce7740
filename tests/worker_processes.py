"""Starts several workers as processes, which find each other in a folder."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent


def run_workers(script: str, folder: Path, size: int, *what: str) -> dict[str, Any]:
    """What the first of so many workers printed.

    Args:
        script: of a worker, in this folder: it takes its rank, how many there are, the folder, and what to do.
        folder: where they meet.
        size: how many.
        what: they do.
    """
    workers = [
        subprocess.Popen(
            [sys.executable, HERE / script, str(rank), str(size), folder, *what],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(size)
    ]
    told = [worker.communicate(timeout=900) for worker in workers]
    assert [worker.returncode for worker in workers] == [0] * size, [err[-2000:] for _, err in told]
    found: dict[str, Any] = json.loads(told[0][0])
    return found
