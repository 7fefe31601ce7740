"""What a driver tells of its cluster, and when it is too old or too damaged to be shown."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path

from prune_search.ledger.cluster_status import CLUSTER_FILE, FRESH_S, Machines, read_machines, tell_machines

NOW = Machines(nodes=3, lost=1, cpus=8.0, cpus_used=2.5, gpus=2.0, gpus_used=0.25, time=1000.0)


def test_what_was_told_is_read_for_a_minute(tmp_path: Path) -> None:
    assert read_machines(tmp_path) is None
    tell_machines(tmp_path, NOW)
    assert read_machines(tmp_path, now=1000.0 + FRESH_S - 1) == NOW
    assert read_machines(tmp_path, now=1000.0 + FRESH_S) is None
    assert read_machines(tmp_path) is None
    fresh = replace(NOW, time=time.time())
    tell_machines(tmp_path, fresh)
    assert read_machines(tmp_path) == fresh


def test_a_damaged_file_is_no_status(tmp_path: Path) -> None:
    whole = vars(NOW)
    for content in ("", "[]", "null", json.dumps({**whole, "cpus": "many"}), json.dumps({**whole, "gpus": 1e400})):
        (tmp_path / CLUSTER_FILE).write_text(content)
        assert read_machines(tmp_path, now=1000.0) is None
    for key in whole:
        (tmp_path / CLUSTER_FILE).write_text(json.dumps({name: value for name, value in whole.items() if name != key}))
        assert read_machines(tmp_path, now=1000.0) is None
