"""An MLflow in memory, with the calls of `tracking.server.Server`, that can be away, slow, or lose an answer."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from prune_search.tracking.run_content import RUNNING, Content, DataSet
from prune_search.tracking.server import FoundRun, RefusedError, UnreachableError

Row = tuple[str, int, int, float]


@dataclass
class StoredRun:
    """A run as MLflow keeps it; the same row twice is one row."""

    name: str
    start_ms: int
    status: str = RUNNING
    end_ms: int | None = None
    deleted: bool = False
    tags: dict[str, str] = field(default_factory=dict)
    params: dict[str, str] = field(default_factory=dict)
    rows: set[Row] = field(default_factory=set)
    artifacts: dict[str, str] = field(default_factory=dict)
    data: set[tuple[str, str]] = field(default_factory=set)

    def values(self) -> dict[tuple[str, int], float]:
        """(metric, step) to value; fails where one is there twice."""
        assert len({(row[0], row[1]) for row in self.rows}) == len(self.rows), "a metric is there twice at a step"
        return {(name, step): value for name, step, _, value in self.rows}


class Killed(BaseException):
    """The process dies here."""


@dataclass
class Store:
    """What MLflow holds, and how it behaves.

    Attributes:
        runs: by id.
        experiments: name to tags.
        calls: name of every call that reached it, and the thread that made it.
        before, after: called with the number of the call, before it is carried out and before it is answered.
    """

    runs: dict[str, StoredRun] = field(default_factory=dict)
    experiments: dict[str, dict[str, str]] = field(default_factory=dict)
    calls: list[tuple[str, str]] = field(default_factory=list)
    before: Callable[[int], None] = lambda number: None
    after: Callable[[int], None] = lambda number: None

    def connect(self, uri: str) -> FakeServer:
        """A server on this store."""
        return FakeServer(self)

    def active(self) -> list[StoredRun]:
        """The runs that nobody deleted."""
        return [run for run in self.runs.values() if not run.deleted]

    def by_key(self) -> dict[str, StoredRun]:
        """The runs by their trial's id; fails where a trial has two."""
        found: dict[str, StoredRun] = {}
        for run in self.active():
            key = run.tags.get("trial.id", "")
            assert key not in found, f"two runs of {key!r}"
            found[key] = run
        return found

    def called(self, name: str) -> None:
        """Count a call."""
        self.calls.append((name, threading.current_thread().name))
        self.before(len(self.calls))

    def answered(self) -> None:
        """Answer it."""
        self.after(len(self.calls))


class FakeServer:
    """The calls of `Server`, on a store."""

    def __init__(self, store: Store) -> None:
        self.store = store

    def experiment(self, name: str, artifacts: Path | None, tags: Mapping[str, str]) -> str:
        self.store.called("experiment")
        self.store.experiments.setdefault(name, {}).update(tags)
        self.store.answered()
        return str(list(self.store.experiments).index(name) + 1)

    def runs(self, experiment: str, search: str) -> list[FoundRun]:
        self.store.called("runs")
        items = self.store.runs.items()
        found = [_found(key, run) for key, run in items if not run.deleted and run.tags.get("search.id") == search]
        self.store.answered()
        return found

    def look(self, run_id: str) -> FoundRun | None:
        self.store.called("look")
        run = self.store.runs.get(run_id)
        self.store.answered()
        return None if run is None else _found(run_id, run)

    def create(self, experiment: str, name: str, start_ms: int, tags: Mapping[str, str]) -> str:
        self.store.called("create")
        run_id = f"run-{len(self.store.runs)}"
        self.store.runs[run_id] = StoredRun(name, start_ms, tags=dict(tags))
        self.store.answered()
        return run_id

    def log(self, run_id: str, part: Content) -> None:
        self.store.called("log")
        run = self._writable(run_id)
        for name, value in part.params.items():
            if run.params.setdefault(name, value) != value:
                raise RefusedError(f"the param {name} cannot be changed")
        run.tags.update(part.tags)
        run.rows |= {(point.name, point.step, point.time_ms, point.value) for point in part.points}
        self.store.answered()

    def steps(self, run_id: str, metric: str) -> set[int]:
        self.store.called("steps")
        found = {step for name, step, _, _ in self._writable(run_id).rows if name == metric}
        self.store.answered()
        return found

    def put_artifacts(self, run_id: str, files: Mapping[str, str]) -> None:
        self.store.called("put_artifacts")
        self._writable(run_id).artifacts.update(files)
        self.store.answered()

    def put_data(self, run_id: str, data: Sequence[DataSet]) -> None:
        self.store.called("put_data")
        self._writable(run_id).data |= {(item.name, item.digest) for item in data}
        self.store.answered()

    def set_status(self, run_id: str, status: str, end_ms: int | None) -> None:
        self.store.called("set_status")
        run = self._writable(run_id)
        run.status, run.end_ms = status, end_ms
        self.store.answered()

    def delete(self, run_id: str) -> None:
        self.store.called("delete")
        self.store.runs[run_id].deleted = True
        self.store.answered()

    def _writable(self, run_id: str) -> StoredRun:
        run = self.store.runs.get(run_id)
        if run is None or run.deleted:
            raise RefusedError(f"no active run {run_id}")
        return run


def _found(run_id: str, run: StoredRun) -> FoundRun:
    return FoundRun(
        run_id,
        run.tags.get("trial.id", ""),
        run.tags.get("search.id", ""),
        run.status,
        run.deleted,
        frozenset(run.params),
        frozenset(name for name, *_ in run.rows),
    )


def away(number: int) -> None:
    """Nobody answers."""
    raise UnreachableError("connection refused by http://user:pass-word@host/api")


def hanging(seconds: float) -> Callable[[int], None]:
    """Every call takes so long."""
    return lambda number: time.sleep(seconds)
