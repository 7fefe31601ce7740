"""A search whose trials find no place on its cluster: row 16 of the fault table."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path

import pytest
from command_line import Typed
from real_mlflow import MLFLOW_WARNINGS
from real_search import SMALL, wait_for

from prune_search.ledger.records import search_folder

pytestmark = [MLFLOW_WARNINGS, pytest.mark.faults]

SPACE = f"""\
# prune-search launch plain.yaml
{SMALL}
preset: snip
mask: {{sparsity: {{hole: uniform, low: 0.5, high: 0.95}}}}
search: {{trials: 4, concurrency: 2}}
"""


def test_a_search_that_finds_no_free_cpu_can_be_asked_to_end(
    trouble: Path, tmp_path: Path, typed: Typed, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Trials that wait for a place are not waited for; without that, SIGTERM would be in vain until others end."""
    import ray

    monkeypatch.setenv("PRUNE_SEARCH_STORAGE", str(tmp_path))
    (tmp_path / "plain.yaml").write_text(SPACE)
    folder, free, in_vain = search_folder(tmp_path, "plain"), tmp_path / "free", threading.Event()

    # Of a node whose workers were killed in earlier tests Ray may count a share as taken for ever.
    @ray.remote(num_cpus=int(ray.available_resources()["CPU"]) or 1)  # type: ignore[no-untyped-call]
    def others() -> None:
        while not free.exists():
            time.sleep(0.1)

    running = others.remote()
    ended = threading.Event()

    def end() -> None:
        wait_for(lambda: list(folder.glob("trials/*/proposed-*")))
        os.kill(os.getpid(), signal.SIGTERM)
        if not ended.wait(60):
            in_vain.set()
            free.touch()

    threading.Thread(target=end, daemon=True).start()
    said = typed("launch", str(tmp_path / "plain.yaml"), "--json")
    ended.set()
    free.touch()
    ray.get(running)
    assert not in_vain.is_set()
    assert said.code == 143
    assert not list(folder.glob("trials/*/started-*"))
