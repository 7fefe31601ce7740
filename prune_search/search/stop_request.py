"""Asks a command to end: a signal reaches its process, which tells its workers by a file in the search's folder."""

from __future__ import annotations

import contextlib
import logging
import signal
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import FrameType

from prune_search.storage.errors import StorageError
from prune_search.storage.files import is_service
from prune_search.storage.lease import Lease, LeaseHeldError, read_holder
from prune_search.storage.places import StoragePath

STOP_FILE = "stop"
LOOK_EVERY_S, ASK_SERVICE_EVERY_S = 0.5, 2.0

_log = logging.getLogger("prune_search")


@dataclass
class StopRequest:
    """Whether a command was asked to end, and by which signal.

    Attributes:
        signal: SIGINT or SIGTERM once one has come.
        lost: whether another process has taken the search over.
    """

    signal: int | None = None
    lost: bool = False

    def __call__(self) -> bool:
        return self.signal is not None or self.lost

    @property
    def exit_code(self) -> int:
        """130 after Ctrl-C, 143 after SIGTERM."""
        return 128 + (self.signal or signal.SIGINT)


@contextlib.contextmanager
def watch_signals(asked: StopRequest, told: Callable[[], None] = lambda: None) -> Iterator[None]:
    """Ctrl-C and SIGTERM ask the command to end, so that states are stored. A second Ctrl-C ends it at once.

    Only the main thread of a process can watch; in any other nothing is watched.

    Args:
        asked: notes the signal.
        told: called at a signal, in the signal handler.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def note(number: int, frame: FrameType | None) -> None:
        if asked.signal is not None and number == signal.SIGINT:
            raise KeyboardInterrupt
        asked.signal = number
        told()

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def holding(folder: StoragePath) -> Iterator[StopRequest]:
    """Hold a search, so that no other process runs it, and watch for the signals that ask it to end.

    Args:
        folder: of the search.

    Raises:
        LeaseHeldError: somebody else holds it, or has taken it over in the meantime.
    """
    asked = StopRequest()
    with Lease(folder, lost=lambda: setattr(asked, "lost", True)):
        (folder / STOP_FILE).unlink(missing_ok=True)
        with watch_signals(asked, lambda: ask_to_stop(folder)):
            yield asked
    if asked.lost:
        raise LeaseHeldError(folder, read_holder(folder))


def ask_to_stop(folder: StoragePath) -> None:
    """Leave the sign. Fit for a signal handler: a service is asked by a thread, since it may be in use right now."""
    sign = folder / STOP_FILE
    if is_service(sign):
        threading.Thread(target=_leave, args=(sign,), name="stop", daemon=True).start()
    else:
        sign.touch()


def _leave(sign: StoragePath) -> None:
    try:
        sign.touch()
    except StorageError as error:
        _log.warning("the workers cannot be told to end: %s", error)


def watch_for_stop(folder: StoragePath) -> Callable[[], bool]:
    """Whether the sign is there, to be asked after every step; looked up now and then."""
    sign = folder / STOP_FILE
    if is_service(sign):
        return _Watch(sign).asked
    last, found = time.monotonic(), sign.exists()

    def asked() -> bool:
        nonlocal last, found
        if not found and time.monotonic() - last > LOOK_EVERY_S:
            last, found = time.monotonic(), sign.exists()
        return found

    return asked


class _Watch:
    """Asks a service for the sign in a thread of its own, so that no step waits for a service.

    The thread ends with the first sign, and where nobody has asked for a while.
    """

    def __init__(self, sign: StoragePath) -> None:
        self._sign = sign
        self._found = False
        self._asked = time.monotonic()
        self._thread: threading.Thread | None = None

    def asked(self) -> bool:
        """Whether the sign was there at the last look."""
        self._asked = time.monotonic()
        if not self._found and (self._thread is None or not self._thread.is_alive()):
            self._thread = threading.Thread(target=self._look, name="stop", daemon=True)
            self._thread.start()
        return self._found

    def _look(self) -> None:
        while not self._found and time.monotonic() - self._asked < 5 * ASK_SERVICE_EVERY_S:
            try:
                self._found = self._sign.is_file()
            except StorageError:
                # It is away: then nobody could have asked either.
                self._found = False
            time.sleep(ASK_SERVICE_EVERY_S)
