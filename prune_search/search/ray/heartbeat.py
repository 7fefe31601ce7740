"""A worker's heartbeat: without a sign of life in time, its process ends itself, even if Python hangs."""

from __future__ import annotations

import faulthandler
import sys
import time

# A data set can be large, and user code slow to import.
START_S = 300.0


class Heartbeat:
    """Beats as often as it is called, from when it is made until it is closed.

    Args:
        seconds: that may pass between two beats; until the first one at least `START_S`.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._last = 0.0
        self._closed = False
        self._wait(max(seconds, START_S))

    def __call__(self) -> None:
        """A sign of life. Cheap enough for every step: most calls only look at the clock."""
        now = time.monotonic()
        if not self._closed and now - self._last > min(1.0, self._seconds / 4):
            self._last = now
            self._wait(self._seconds)

    def _wait(self, seconds: float) -> None:
        # Ray replaces sys.stderr by an object without a file number.
        faulthandler.dump_traceback_later(seconds, exit=True, file=sys.__stderr__ or 2)

    def close(self) -> None:
        """From here on nothing ends the process, whoever still beats."""
        self._closed = True
        faulthandler.cancel_dump_traceback_later()
