"""Signals the workers of a search that it was asked to stop."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

from prune_search.storage.errors import StorageError
from prune_search.storage.object_paths import ObjectPath
from prune_search.storage.places import StoragePath

STOP_FILE = "stop"
LOOK_EVERY_S, LOOK_AT_OBJECT_EVERY_S = 0.5, 2.0

_log = logging.getLogger("prune_search")


def ask_to_stop(folder: StoragePath) -> None:
    """Leave the sign. Fit for a signal handler: a service is asked by a thread, since it may be in use right now."""
    sign = folder / STOP_FILE
    if isinstance(sign, ObjectPath):
        threading.Thread(target=_leave, args=(sign,), name="stop", daemon=True).start()
    else:
        sign.touch()


def _leave(sign: ObjectPath) -> None:
    try:
        sign.touch()
    except StorageError as error:
        _log.warning("cannot tell the workers to stop: %s", error)


def watch_for_stop(folder: StoragePath) -> Callable[[], bool]:
    """Whether the sign is there, to be asked after every step; looked up now and then."""
    sign = folder / STOP_FILE
    if isinstance(sign, ObjectPath):
        return _Watch(sign).asked
    last, found = time.monotonic(), sign.exists()

    def asked() -> bool:
        nonlocal last, found
        if not found and time.monotonic() - last > LOOK_EVERY_S:
            last, found = time.monotonic(), sign.exists()
        return found

    return asked


class _Watch:
    """Looks for an object's existence in a thread of its own, so that no step waits for a service.

    The thread ends with the first sign, and where nobody has asked for a while.
    """

    def __init__(self, sign: ObjectPath) -> None:
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
        while not self._found and time.monotonic() - self._asked < 5 * LOOK_AT_OBJECT_EVERY_S:
            try:
                self._found = self._sign.is_file()
            except StorageError:
                # It is away: then nobody could have asked either.
                self._found = False
            time.sleep(LOOK_AT_OBJECT_EVERY_S)
