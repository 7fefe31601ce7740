"""A process that makes no step in time ends itself; one that beats, or is closed, does not."""

from __future__ import annotations

import subprocess
import sys

TEXT = """\
import time
from prune_search.search.ray import heartbeat
heartbeat.START_S = 0.0
beat = heartbeat.Heartbeat(0.4)
for _ in range(6):
    time.sleep(0.1)
    beat()
{then}
time.sleep(1.0)
print("alive")
"""


def run(then: str) -> subprocess.CompletedProcess[str]:
    words = [sys.executable, "-c", TEXT.format(then=then)]
    return subprocess.run(words, capture_output=True, text=True, check=False, timeout=60)


def test_a_process_that_hangs_ends_itself_and_shows_where() -> None:
    hung = run("")
    assert (hung.returncode, hung.stdout) == (1, "")
    assert "Timeout" in hung.stderr
    assert "<string>" in hung.stderr


def test_after_it_is_closed_nothing_ends_the_process() -> None:
    closed = run("beat.close()\nbeat()")
    assert (closed.returncode, closed.stdout) == (0, "alive\n")
