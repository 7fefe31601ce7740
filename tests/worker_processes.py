"""Starts several workers as processes, which find each other in a folder; and what such a process does."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
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


def answer(run: Callable[[str, Path], Any]) -> None:
    """Be one of these workers: do what is asked for; the first one prints what came of it.

    Args:
        run: does one thing, by its name and the folder where the workers meet.
    """
    import torch
    from torch import distributed

    torch.set_num_threads(1)
    rank, size, folder = int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3])
    distributed.init_process_group("gloo", init_method=f"file://{folder}/meet-{size}", rank=rank, world_size=size)
    printed = {name: run(name, folder) for name in sys.argv[4:]}
    if rank == 0:
        print(json.dumps(printed), flush=True)
    distributed.destroy_process_group()
