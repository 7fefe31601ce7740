"""One process per search: a lease that is renewed, and taken over if its holder has died.

Whether a holder lives is asked of its process only where both are in the same boot and pid namespace. Everywhere else
the lease itself is watched: a renewal changes it, so no two machines' clocks are compared, and a container that shares
its host's name is no exception.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import secrets
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from prune_search.recipe.problems import Problem, UserError
from prune_search.storage.files import StorageError, create_if_absent, put_file, settle_s
from prune_search.storage.json_files import LEASE_FILE, read_json
from prune_search.storage.places import StoragePath

RENEW_EVERY_S = 5.0
STALE_AFTER_S = 60.0
# A lease that does not change for so long, six renewals, is nobody's any more.
WATCH_S, LOOK_EVERY_S = 30.0, 0.5

_log = logging.getLogger("prune_search")


@dataclass(frozen=True)
class Holder:
    """Who holds a search.

    Attributes:
        host: name of the machine.
        pid: process there.
        started: the process's start time as the system tells it, so that a pid used again is no holder.
        token: tells this holding from every other.
        time: seconds since the epoch on the holder's clock, when it was renewed.
        place: the boot and the pid namespace in which the pid counts; empty in leases of version 0.1.
    """

    host: str
    pid: int
    started: str
    token: str
    time: float
    place: str = ""

    @property
    def is_here(self) -> bool:
        """Whether this process can see the holder's."""
        return self.place != "" and self.place == this_place()

    def alive(self) -> bool:
        """Whether the holder seems to work: good enough for a display, not for taking a search over (`still_held`)."""
        if self.is_here:
            return started(self.pid) == self.started
        return abs(time.time() - self.time) < STALE_AFTER_S


def this_place() -> str:
    """What pids count in: this boot of the machine and the pid namespace; the host's name where there is no /proc."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return "" if Path("/proc/self/stat").exists() else socket.gethostname()


def still_held(folder: StoragePath) -> Holder | None:
    """The holder of a search that still works, or None.

    A holder that this process cannot see is watched for `WATCH_S` seconds: it works if its lease changes meanwhile.

    Args:
        folder: of the search.
    """
    first = read_holder(folder)
    if first is None or first.is_here:
        return first if first is not None and first.alive() else None
    _log.warning(
        "process %d on %s held the search %r: watching for %.0f s whether it still does",
        *(first.pid, first.host, folder.name, WATCH_S),
    )
    end = time.monotonic() + WATCH_S
    while time.monotonic() < end:
        time.sleep(LOOK_EVERY_S)
        now = read_holder(folder)
        if now != first:
            return now
    return None


def started(pid: int) -> str:
    """The start time of a process in clock ticks since boot; empty where there is no such process."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace").rpartition(")")[2].split()
    except OSError:
        return _exists(pid)
    # A zombie does nothing any more.
    return "" if fields[0] == "Z" else fields[19]


def _exists(pid: int) -> str:
    """For systems without /proc: whether a process exists is all that is known."""
    if Path("/proc/self/stat").exists():
        return ""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return ""
    except PermissionError:
        return "exists"
    return "exists"


def read_holder(folder: StoragePath) -> Holder | None:
    """The holder that a search's lease names, alive or not."""
    try:
        content = read_json(folder / LEASE_FILE)
        host, started, token = (str(content[key]) for key in ("host", "started", "token"))
        place = str(content.get("place", ""))
        return Holder(host, int(content["pid"]), started, token, float(content["time"]), place)
    except (UserError, KeyError, TypeError, ValueError):
        return None


class LeaseHeldError(UserError):
    """Somebody else holds a search; it says who."""

    def __init__(self, folder: StoragePath, holder: Holder | None) -> None:
        who = f"process {holder.pid} on {holder.host}" if holder is not None else "another process"
        super().__init__([Problem("", f"the search {folder.name!r} is held by {who}; it is running")])


class Lease:
    """Holds a search while it is open; a context manager.

    Args:
        folder: of the search.
        lost: called once, from the renewing thread, when somebody else holds the search.
    """

    def __init__(self, folder: StoragePath, lost: Callable[[], None]) -> None:
        self.folder = folder
        self.lost = lost
        self.token = secrets.token_hex(16)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._renew, name="lease", daemon=True)

    def __enter__(self) -> Lease:
        """Take the lease.

        Raises:
            LeaseHeldError: somebody else holds the search.
        """
        before = read_holder(self.folder)
        if before is not None and (holder := still_held(self.folder)) is not None:
            raise LeaseHeldError(self.folder, holder)
        if before is not None or not create_if_absent(self.folder / LEASE_FILE, self._content()):
            self._take_over(before)
        self._thread.start()
        return self

    def _take_over(self, before: Holder | None) -> None:
        """Take what is nobody's any more, or no lease at all. Of two at once the last one to write holds it."""
        now = read_holder(self.folder)
        if now is not None and now != before and (holder := still_held(self.folder)) is not None:
            raise LeaseHeldError(self.folder, holder)
        self._write()
        time.sleep(settle_s(self.folder))
        now = read_holder(self.folder)
        if now is None or now.token != self.token:
            raise LeaseHeldError(self.folder, now)

    def __exit__(self, *error: object) -> None:
        """Give the lease back. Where the storage is away, it is a stale one soon."""
        self._stop.set()
        self._thread.join(timeout=RENEW_EVERY_S)
        with contextlib.suppress(StorageError):
            now = read_holder(self.folder)
            if now is not None and now.token == self.token:
                (self.folder / LEASE_FILE).unlink(missing_ok=True)

    def _content(self) -> bytes:
        pid = os.getpid()
        holder = Holder(socket.gethostname(), pid, started(pid), self.token, time.time(), this_place())
        return json.dumps(asdict(holder)).encode()

    def _write(self) -> None:
        put_file(self.folder / LEASE_FILE, self._content())

    def _renew(self) -> None:
        while not self._stop.wait(RENEW_EVERY_S):
            try:
                now = read_holder(self.folder)
                if now is not None and now.token != self.token:
                    self.lost()
                    return
                self._write()
            except StorageError:
                # A full disk or a service away for a moment: the lease holds on for a minute without renewal.
                continue
