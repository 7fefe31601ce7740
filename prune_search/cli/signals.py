"""Handles Ctrl-C and SIGTERM: the first one stores the state and stops, the second Ctrl-C stops immediately."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from types import FrameType


@dataclass
class StopRequest:
    """Whether the process was asked to stop.

    Attributes:
        signal: SIGINT or SIGTERM, once one has arrived.
    """

    signal: int | None = None

    def __call__(self) -> bool:
        return self.signal is not None

    @property
    def exit_code(self) -> int:
        """130 after Ctrl-C, 143 after SIGTERM."""
        return 128 + (self.signal or signal.SIGINT)


@contextlib.contextmanager
def asked_to_end() -> Iterator[StopRequest]:
    """Watch for both signals; a second Ctrl-C raises KeyboardInterrupt."""
    asked = StopRequest()

    def note(number: int, frame: FrameType | None) -> None:
        if asked.signal is not None and number == signal.SIGINT:
            raise KeyboardInterrupt
        asked.signal = number

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
