"""What tests with the real MLflow share: its warnings, what a search left in it, and a server on this machine."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from real_search import wait_for

from prune_search.ledger.tracking_uri import default_uri
from prune_search.storage.places import StoragePath
from prune_search.tracking.delivery_thread import TrackingError, sync
from prune_search.tracking.store import Serving, ui_command, ui_environment

# mlflow 3.17 uses a loader of SQLAlchemy that 2.1 calls deprecated; nothing that we can change.
MLFLOW_WARNINGS = pytest.mark.filterwarnings(
    "ignore:The ``noload`` loader strategy is deprecated:sqlalchemy.exc.SADeprecationWarning"
)
START_S = 120.0
ADMIN = ("canary-admin", "canary-admin-password")


@dataclass(frozen=True)
class Kept:
    """A run as MLflow tells of it.

    Attributes:
        run: what `get_run` answers.
        rows: every row of every metric: (name, step, time, value).
    """

    run: Any
    rows: list[tuple[str, int, int, float]]

    @property
    def key(self) -> str:
        """The trial's id; empty for the search."""
        return str(self.run.data.tags.get("trial.id", ""))

    @property
    def status(self) -> str:
        """RUNNING, FINISHED, FAILED or KILLED."""
        return str(self.run.info.status)


def kept_runs(client: Any, experiment: str, search: str) -> list[Kept]:
    """Every run of a search that nobody deleted, with all rows of its metrics."""
    found = client.get_experiment_by_name(experiment)
    runs = client.search_runs([found.experiment_id], f"tags.`search.id` = '{search}'", max_results=1000)
    return [
        Kept(
            run,
            [
                (row.key, row.step, row.timestamp, row.value)
                for name in run.data.metrics
                for row in client.get_metric_history(run.info.run_id, name)
            ],
        )
        for run in runs
    ]


def deliver_rest(folder: StoragePath) -> None:
    """Deliver what is left of a search: on a busy machine not all arrives within the half minute that it waits.

    Raises:
        TimeoutError: the search's own thread has not let go within a minute, or MLflow is away.
    """

    def delivered() -> bool:
        with contextlib.suppress(TrackingError):
            sync(folder)
            return True
        return False

    wait_for(delivered)


def free_port() -> int:
    """A port of this machine that nobody listens on now."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@dataclass
class LocalServer:
    """`mlflow server` as ``prune-search ui`` starts it.

    Attributes:
        storage: its database and files.
        port: on the loopback address.
        process: while it runs.
        database: where its database is another one.
        auth: whether it asks for names and passwords; the first user is `ADMIN`.
        artifacts: where files go; None: below the storage.
    """

    storage: Path
    port: int
    process: subprocess.Popen[bytes] | None = None
    database: str | None = None
    auth: bool = False
    artifacts: str | None = None

    @property
    def uri(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start it, and wait until it answers."""
        uri = self.database or default_uri(self.storage)
        serving = Serving(port=self.port, auth=self.auth, artifacts=self.artifacts)
        with pytest.MonkeyPatch.context() as patch:
            if self.auth:
                patch.setenv("MLFLOW_AUTH_ADMIN_USERNAME", ADMIN[0])
                patch.setenv("MLFLOW_AUTH_ADMIN_PASSWORD", ADMIN[1])
            environment = ui_environment(self.storage, uri, serving)
        with (self.storage / "server.log").open("ab") as log:
            # A session of its own, so that its workers end with it.
            self.process = subprocess.Popen(
                ui_command(self.storage, uri, serving),
                env=environment,
                stdout=log,
                stderr=log,
                start_new_session=True,
                cwd=self.storage,
            )
        end = time.monotonic() + START_S
        while time.monotonic() < end and self.process.poll() is None:
            with contextlib.suppress(urllib.error.URLError, ConnectionError, TimeoutError):
                urllib.request.urlopen(f"{self.uri}/health", timeout=5).close()
                return
            time.sleep(0.2)
        raise RuntimeError((self.storage / "server.log").read_text()[-2000:])

    def stop(self) -> None:
        """End it at once, and wait until it is gone."""
        if self.process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
            self.process = None


@contextlib.contextmanager
def local_server(
    storage: Path, database: str | None = None, auth: bool = False, artifacts: str | None = None
) -> Iterator[LocalServer]:
    """A server while the block runs."""
    server = LocalServer(storage, free_port(), None, database, auth, artifacts)
    try:
        server.start()
        yield server
    finally:
        server.stop()
