"""Real searches that the tests share: small spaces on digits, what two searches are compared by, and Ray for all."""

from __future__ import annotations

import contextlib
import importlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from command_line import Said
from forked_workers import forked_workers

import prune_search
from prune_search.api.outcome import Outcome
from prune_search.ledger.records import SearchRecords, TrialRecords, read_search, search_folder
from prune_search.ledger.tracking_uri import default_uri
from prune_search.recipe.axes import CRITERIA, MODELS
from prune_search.recipe.problems import UserError
from prune_search.storage.places import StoragePath

TESTS = Path(__file__).parent
# What the criteria of `troubled` look for: a variable that names a folder, and files in it.
TROUBLE, LATE, HANG, HALT = "PRUNE_SEARCH_TEST_TROUBLE", "late", "hang", "halt"
SMALL = """\
task: {data: digits, model: {name: mlp, hidden: [16]}, seed: 0}
train: {steps: 3ep, batch: 128, optimizer: {name: sgd, lr: 0.1, momentum: 0.9}}
"""
MIXED = f"""\
# prune-search launch mixed.yaml
{SMALL}
mask: {{sparsity: {{hole: uniform, low: 0.5, high: 0.95}}}}
any:
- preset: snip
- preset: magnitude-after-training
  retrain: {{steps: {{hole: int, low: 1ep, high: 2ep}}, clock: {{hold: {{hole: loguniform, low: 0.01, high: 0.1}}}}}}
- preset: lottery-ticket
  rounds: {{hole: int, low: 2, high: 3}}
- mask: {{at: end, criterion: late}}
  weights: {{at: 1ep}}
  retrain: {{until: end, clock: 1ep}}
search: {{sampler: tpe, trials: 8, concurrency: 2, reproducible: true, seed: 3}}
"""


def environment(trouble: Path) -> dict[str, str]:
    """Environment of a process whose workers know the criteria that make trouble."""
    path = os.pathsep.join(filter(None, (str(TESTS), os.environ.get("PYTHONPATH"))))
    ours = {"PYTHONPATH": path, "PRUNE_SEARCH_PLUGINS": "troubled", TROUBLE: str(trouble), "OMP_NUM_THREADS": "1"}
    return {**os.environ, **ours, "COLUMNS": "160"}


@contextmanager
def running_ray(trouble: Path, more: Mapping[str, str] | None = None) -> Iterator[None]:
    """Ray in this process, for all searches in it; its workers see the variables `more`."""
    from prune_search.search.ray.connection import disconnect
    from prune_search.search.ray.driver import SETTINGS

    before = dict(os.environ)
    # Ray lets its workers wait for whatever else the machine does, and so for the other half of the tests.
    os.environ.update(environment(trouble) | SETTINGS | {"RAY_worker_niceness": "0"} | dict(more or {}))
    import ray

    # Paths of sockets are short.
    folder = tempfile.mkdtemp(prefix="ps-ray-")
    with forked_workers() as forks, pytest.MonkeyPatch.context() as patch:
        os.environ.update(forks)
        # It reads what all workers wrote again and again, to show it to nobody.
        patch.setattr("ray._private.node.Node.start_log_monitor", lambda node: None)
        ray.init(
            address="local",
            include_dashboard=False,
            log_to_driver=False,
            logging_level=40,
            num_cpus=2,
            _temp_dir=folder,
        )
        # The workers have it; this process, and what other tests start from it, must not.
        os.environ.clear()
        os.environ.update(before)
        try:
            yield
        finally:
            disconnect()
            shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def troubles() -> Iterator[None]:
    """The criteria that make trouble, known to this process too: other tests look at all that are registered."""
    if "troubled" in sys.modules:
        yield
        return
    before = [(registry, set(registry)) for registry in (CRITERIA, MODELS)]
    importlib.import_module("troubled")
    try:
        yield
    finally:
        for registry, names in before:
            for name in set(registry) - names:
                registry.withdraw(name)
        del sys.modules["troubled"]


def outcome_of(trial: TrialRecords) -> Mapping[str, Any]:
    """What two searches agree on: all that was proposed and found, but not when, how fast, and what was stored."""
    proposed = dict(trial.proposed.data) if trial.proposed is not None else {}
    ended = dict(trial.ended.data) if trial.ended is not None else {}
    varied = ("seconds", "seconds_waiting", "steps_trained", "steps_reused")
    result = {key: value for key, value in trial.result.items() if key not in varied}
    measured = [
        (record.data["round"], record.data["step"], record.data["steps_trained"], record.data["metrics"])
        for record in trial.measured
    ]
    return {
        "proposed": proposed,
        "measured": sorted(measured, key=lambda row: (row[0], row[1] is None, row[1] or 0)),
        "status": ended.get("status"),
        "error": ended.get("error"),
        "paused": ended.get("paused"),
        "promotions": [dict(record.data) for record in trial.promotions],
        "result": result,
    }


def outcomes(records: SearchRecords, *without: str) -> dict[str, Mapping[str, Any]]:
    """`outcome_of` every trial and control, by id; `without` some of its keys."""
    found = {identity: outcome_of(trial) for identity, trial in records.trials.items()}
    return {
        identity: {key: value for key, value in outcome.items() if key not in without}
        for identity, outcome in found.items()
    }


def statuses(records: SearchRecords) -> list[str]:
    """The status of each trial that counts."""
    return [trial.status for trial in records.numbered()]


def descendants(pid: int) -> set[int]:
    """A process and all that it has started, as /proc tells it."""
    parents: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                parents[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
    found = {pid}
    while more := {child for child, parent in parents.items() if parent in found} - found:
        found |= more
    return found


def alive(pid: int) -> bool:
    """Whether a process still does something."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def command_of(pid: int) -> str:
    """The command line of a process; empty where it is gone."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    except OSError:
        return ""


def wait_for(what: Callable[[], Any], seconds: float = 180.0) -> Any:
    """What `what` returns once it is true.

    Raises:
        TimeoutError: it was not in time.
    """
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        found = what()
        if found:
            return found
        time.sleep(0.01)
    raise TimeoutError(f"not within {seconds} s")


def attempts(folder: StoragePath) -> int:
    """How many attempts of trials a search has begun."""
    return _counted(folder, lambda trial: len(trial.attempts))


def _counted(folder: StoragePath, of: Callable[[TrialRecords], int]) -> int:
    try:
        return sum(of(trial) for trial in read_search(folder).trials.values())
    except UserError:
        return 0


@dataclass
class Started:
    """A search in a process of its own, with a Ray of its own.

    Attributes:
        folder: of the search.
        process: the command line.
        family: every process that it was ever seen to have.
    """

    folder: StoragePath
    process: subprocess.Popen[str]
    family: set[int]

    @classmethod
    def of(cls, home: Path, trouble: Path, storage: StoragePath, name: str, *words: str) -> Started:
        """Type a command about the search `name`, in a session of its own as a terminal has it."""
        process = subprocess.Popen(
            [sys.executable, "-m", "prune_search", *words, "--storage", str(storage)],
            env=environment(trouble),
            cwd=home,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        return cls(search_folder(storage, name), process, {process.pid})

    def wait_for_attempts(self, number: int, seconds: float = 300.0) -> None:
        """Until so many attempts of trials have been started."""
        self._wait(lambda: attempts(self.folder) >= number, seconds)

    def wait_for_ended(self, number: int, seconds: float = 600.0) -> None:
        """Until so many trials have ended."""
        self._wait(lambda: _counted(self.folder, lambda trial: trial.ended is not None) >= number, seconds)

    def _wait(self, what: Callable[[], bool], seconds: float) -> None:
        wait_for(lambda: self.process.poll() is not None or what(), seconds)
        assert self.process.poll() is None, self.said()
        self.family |= descendants(self.process.pid)

    def kill_all(self) -> None:
        """SIGKILL, and all that it has started."""
        for pid in descendants(self.process.pid):
            os.kill(pid, signal.SIGKILL)
        self.said()

    def said(self, seconds: float = 300.0) -> Said:
        """What it came to, once it has ended."""
        out, err = self.process.communicate(timeout=seconds)
        return Said(self.process.returncode, out, err)


@dataclass
class Searches:
    """Runs searches in this process.

    Attributes:
        folder: for all of them.
        ended: by search, the trials that have ended, as a listener was told.
        storage: of the states of those that name no other.
    """

    folder: Path
    ended: dict[str, list[str]] = field(default_factory=dict)

    @property
    def storage(self) -> Path:
        return self.folder / "storage"

    def launch(self, text: str, name: str, storage: Path | None = None, **sets: Any) -> Outcome:
        """Write a space file, and search it; all share one MLflow."""
        file = self.folder / f"{name}.yaml"
        file.write_text(text)
        options = prune_search.Options(name, tracking_uri=default_uri(self.storage))
        values = {key.replace("__", "."): value for key, value in sets.items()}
        where = prune_search.Where(storage=storage or self.storage)
        return prune_search.launch(file, set=values, where=where, options=options, listener=self.listen)

    def listen(self, records: SearchRecords, trial: TrialRecords | None) -> None:
        """Note which trials have ended."""
        if trial is not None:
            self.ended.setdefault(records.name, []).append(trial.id)
