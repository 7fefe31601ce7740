"""One background thread for work beside the training, such as writing a large state; further work waits for it."""

from __future__ import annotations

import threading
from collections.abc import Callable

# What is called when it is done, in the thread that trains, with the error that it ended in.
Done = Callable[[BaseException | None], None]


class Background:
    """Runs one job at a time in a thread of its own."""

    def __init__(self) -> None:
        self._thread: threading.Thread | None = None
        self._done: Done | None = None
        self._error: BaseException | None = None

    def start(self, job: Callable[[], None], done: Done) -> None:
        """Begin a job, after the one before it has ended.

        Args:
            job: what is done beside.
            done: called by the next `start`, `look` or `wait` after it, in their thread.
        """
        self.wait()

        def run() -> None:
            try:
                job()
            except BaseException as error:  # noqa: BLE001 - whatever it is, whoever waits is told
                self._error = error

        self._error, self._done = None, done
        # A process that ends does not wait for it: what is half-written then has a name that nobody reads.
        self._thread = threading.Thread(target=run, name="stored state", daemon=True)
        self._thread.start()

    def look(self) -> None:
        """Tell of a job that has ended by now; one that has not goes on."""
        if self._thread is not None and not self._thread.is_alive():
            self.wait()

    def wait(self) -> None:
        """Wait for the job, where there is one, and tell of it."""
        if self._thread is None or self._done is None:
            return
        self._thread.join()
        done, error = self._done, self._error
        self._thread = self._done = self._error = None
        done(error)
