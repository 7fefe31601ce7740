"""Logs what has reached MLflow, next to the search's records, so that nothing is sent twice.

    <search>/tracking/<digest of the URI>/<milliseconds>-<token>.jsonl    one file per process that delivers
    <search>/tracking/<digest of the URI>/lock                            held by the one process that delivers now

An object store can neither append nor lock: of a search that lies in one, both lie in the storage's side folder on the
machine that delivers.

A line is appended after MLflow has answered. A process that dies in between has sent something that no line tells of;
whoever comes next asks MLflow before it sends that again.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import secrets
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from prune_search.ledger.records import SEARCH_FILE
from prune_search.ledger.tracking_uri import kept_uri
from prune_search.ledger.uris import without_credentials
from prune_search.storage.files import is_service, open_regular, side_folder
from prune_search.storage.json_files import read_json
from prune_search.storage.places import StoragePath
from prune_search.tracking.run_content import Sent, digest

FOLDER, LOCK = "tracking", "lock"
MAX_BYTES = 2**30
_UNSUPPORTED = (errno.ENOSYS, errno.ENOTSUP, errno.ENOLCK, errno.EINVAL)


class BusyError(Exception):
    """Another process delivers this search to the same MLflow now."""


def memory_folder(search: StoragePath, uri: str) -> Path:
    """Where it is kept what MLflow at `uri` has got of a search, whatever password and wherever the storage is."""
    if is_service(search):
        # Not by its name alone: a search of that name can have been deleted.
        identity = digest(f"{search} {read_json(search / SEARCH_FILE).get('id')}")
        parent = side_folder(search.parent.parent) / FOLDER / identity
    else:
        parent = side_folder(search) / FOLDER
    before = parent / digest(without_credentials(uri))
    now = parent / digest(without_credentials(kept_uri(uri, search.parent.parent)))
    # Version 0.1 named it by the whole path of a database in the storage.
    return before if before.is_dir() and not now.is_dir() else now


@contextlib.contextmanager
def only_writer(folder: Path) -> Iterator[None]:
    """Be the only process that delivers; the lock goes with the process.

    Raises:
        BusyError: another one is.
        OSError: the folder cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / LOCK, "ab") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if (
                error.errno not in _UNSUPPORTED
            ):  # some network file systems have no locks; the search's lease holds there
                raise BusyError("another process is delivering to it") from error
        yield


@dataclass
class DeliveredLog:
    """What is known to be in MLflow, by the key of the run.

    Attributes:
        folder: where its files lie.
        runs: by key.
        notes: how many lines of runs this process has added.
        experiment: MLflow's number of the experiment; empty while it is not known.
    """

    folder: Path
    runs: dict[str, Sent] = field(default_factory=dict)
    notes: int = 0
    experiment: str = ""
    _own: BinaryIO | None = None

    @classmethod
    def read(cls, folder: Path) -> DeliveredLog:
        """What all processes so far have noted. Lines that were cut or are foreign are left out."""
        memory = cls(folder)
        files = sorted(folder.glob("*.jsonl")) if folder.is_dir() else []
        for path in files:
            for line in _lines(path):
                # A line that was cut, or is no line of ours, tells nothing.
                with contextlib.suppress(ValueError, TypeError, KeyError, AttributeError, RecursionError):
                    memory.apply(json.loads(line))
        return memory

    def of(self, key: str) -> Sent:
        """What is known of a run."""
        return self.runs.setdefault(key, Sent())

    def note(self, key: str, event: Mapping[str, Any]) -> None:
        """Keep what MLflow has answered.

        Where the disk is full it is known to this process only, and the next one asks MLflow.
        """
        event = {"run": key, **event}
        self.notes += 1
        self.apply(event)
        self._write(event)

    def note_experiment(self, experiment: str) -> None:
        """Keep MLflow's number of the experiment, by which people find the search's pages."""
        if experiment != self.experiment:
            self.experiment = experiment
            self._write({"experiment": experiment})

    def _write(self, event: Mapping[str, Any]) -> None:
        with contextlib.suppress(OSError):
            self._file().write((json.dumps(event, separators=(",", ":")) + "\n").encode())

    def _file(self) -> BinaryIO:
        if self._own is None:
            name = f"{int(time.time() * 1000):015d}-{os.getpid()}-{secrets.token_hex(4)}.jsonl"
            self._own = open(self.folder / name, "xb", buffering=0)  # noqa: SIM115 - open as long as the process delivers
        return self._own

    def close(self) -> None:
        """Close the file of this process."""
        if self._own is not None:
            self._own.close()
            self._own = None

    def apply(self, event: Mapping[str, Any]) -> None:
        """Take a line into account."""
        if "experiment" in event:
            self.experiment = str(event["experiment"])
            return
        key = str(event["run"])
        if event.get("forget"):
            self.runs[key] = Sent()
            return
        sent = self.of(key)
        if "run_id" in event:
            sent.run_id = str(event["run_id"])
        sent.status = str(event.get("status", sent.status))
        sent.gone = bool(event.get("gone", sent.gone))
        sent.params |= set(event.get("params", ()))
        sent.tags |= dict(event.get("tags", {}))
        for name, steps in dict(event.get("steps", {})).items():
            sent.steps.setdefault(name, set()).update(steps)
        sent.artifacts |= dict(event.get("artifacts", {}))
        sent.data |= set(event.get("data", ()))


def _lines(path: Path) -> list[bytes]:
    try:
        with open_regular(path) as file:
            return file.read(MAX_BYTES).split(b"\n")
    except OSError:
        return []
