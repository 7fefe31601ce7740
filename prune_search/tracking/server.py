"""The few MLflow calls that delivery needs. mlflow is imported only when one of them is made."""

from __future__ import annotations

import contextlib
import socket
import sqlite3
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import urlsplit

from prune_search.ledger.tracking_uri import sqlite_file
from prune_search.ledger.uris import masked
from prune_search.storage.files import one_line
from prune_search.tracking.run_content import RUNNING, Content, DataSet
from prune_search.tracking.settings import prepare_process, settings
from prune_search.tracking.sqlite_file import check_database, prepare_database

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

EXPERIMENT_TAGS = {"mlflow.experimentKind": "custom_model_development"}
# What asking again will not change.
MISSING = "RESOURCE_DOES_NOT_EXIST"
_REFUSALS = ("INVALID_PARAMETER_VALUE", "BAD_REQUEST", MISSING)
PAGE = 200
MAX_REASON = 200
# Where each kind of database listens unless the URI says otherwise; sqlite listens nowhere.
DATABASE_PORTS = {"postgresql": 5432, "mysql": 3306, "mssql": 1433}
KNOCK_S = 5.0


class UnreachableError(Exception):
    """MLflow did not answer, or not with an answer: whether the call was carried out is not known. One line."""


class FilesError(UnreachableError):
    """Everything arrived but files, which may be kept elsewhere. One line."""


class RefusedError(Exception):
    """MLflow refused a call: others may still succeed. One line.

    Attributes:
        missing: whether there is no such thing.
    """

    def __init__(self, line: str, missing: bool = False) -> None:
        super().__init__(line)
        self.missing = missing


@dataclass(frozen=True)
class FoundRun:
    """A run as MLflow tells of it.

    Attributes:
        run_id: MLflow's id.
        key: the trial's id; empty for the run of a search.
        search: id of the search.
        status: RUNNING, FINISHED …
        deleted: whether a user deleted it.
        params: names.
        metrics: names.
    """

    run_id: str
    key: str
    search: str
    status: str
    deleted: bool
    params: frozenset[str]
    metrics: frozenset[str]


class Server(Protocol):
    """What delivery asks of MLflow. Every method raises UnreachableError or RefusedError."""

    def experiment(self, name: str, artifacts: Path | None, tags: Mapping[str, str]) -> str:
        """The id of an experiment, which is made where it is not there.

        Args:
            name: of the experiment.
            artifacts: where a new one keeps its files; None leaves that to the server.
            tags: that it should have.
        """

    def runs(self, experiment: str, search: str) -> list[FoundRun]:
        """The runs of a search that nobody deleted."""

    def look(self, run_id: str) -> FoundRun | None:
        """A run by MLflow's id of it, deleted ones too; None where there is none."""

    def create(self, experiment: str, name: str, start_ms: int, tags: Mapping[str, str]) -> str:
        """Make a run; its id."""

    def log(self, run_id: str, part: Content) -> None:
        """Send params, tags and points in one call; the same ones twice are there once."""

    def steps(self, run_id: str, metric: str) -> set[int]:
        """The steps at which a metric has a value."""

    def put_artifacts(self, run_id: str, files: Mapping[str, str]) -> None:
        """Store files with a run; one of the same name is replaced."""

    def put_data(self, run_id: str, data: Sequence[DataSet]) -> None:
        """Tell which data sets a run read; the same ones twice are there once."""

    def set_status(self, run_id: str, status: str, end_ms: int | None) -> None:
        """Set a run's status, and when it ended."""

    def delete(self, run_id: str) -> None:
        """Delete a run; MLflow keeps it where deleted runs are."""


def connect(uri: str) -> Server:
    """A server by its tracking URI. Nothing is asked of it yet, but mlflow is imported.

    Raises:
        UnreachableError: the URI is of no known kind, or a database cannot be opened.
    """
    prepare_process()
    prepare(uri)
    with answers(uri):
        from mlflow import MlflowClient

        return MlflowServer(MlflowClient(tracking_uri=uri), uri)


def prepare(uri: str) -> None:
    """See that a database can be used, before MLflow tries; an SQLite file is made where there is none.

    Raises:
        UnreachableError: it cannot.
    """
    knock(uri)
    if (file := sqlite_file(uri)) is not None:
        with answers(uri), _of_file(file):
            prepare_database(file, _make_tables)


def _make_tables(uri: str) -> None:
    from mlflow import MlflowClient

    MlflowClient(tracking_uri=uri).search_experiments(max_results=1)


@contextlib.contextmanager
def _of_file(file: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, sqlite3.Error) as error:
        raise UnreachableError(f"the database {file} cannot be used: {one_line(error)}") from None


def knock(uri: str) -> None:
    """See whether somebody listens where a database is said to be, or whether its file can be used.

    Without it MLflow tries a database that is away again and again for two minutes, and whatever else in the process
    wants an MLflow waits as long.

    Raises:
        UnreachableError: nobody does, or it cannot.
    """
    if (file := sqlite_file(uri)) is not None:
        with _of_file(file):
            check_database(file)
        return
    parts = urlsplit(uri)
    usual = DATABASE_PORTS.get(parts.scheme.partition("+")[0])
    if usual is None or parts.hostname is None:
        return
    try:
        socket.create_connection((parts.hostname, parts.port or usual), timeout=KNOCK_S).close()
    except (OSError, ValueError) as error:
        raise UnreachableError(masked(f"the database does not answer: {one_line(error)}", uri)) from None


@contextlib.contextmanager
def answers(uri: str) -> Iterator[None]:
    """Calls of mlflow under our `settings`.

    Raises:
        UnreachableError, RefusedError: whatever mlflow, requests or a database raises, in one line without passwords.
    """
    try:
        with settings():
            yield
    except (UnreachableError, RefusedError):
        raise
    except Exception as error:  # noqa: BLE001 - the libraries below raise all kinds; none of them is an answer
        line = masked(_reason(error), uri)
        code = getattr(error, "error_code", "")
        if code in _REFUSALS:
            raise RefusedError(line, missing=code == MISSING) from None
        raise UnreachableError(line) from None


def _reason(error: Exception) -> str:
    """The reason on one line; requests puts it last, behind everything that it was asked for."""
    text = " ".join(str(error).split())
    cause = text.rpartition("(Caused by ")[2].rstrip("\"')") if "(Caused by " in text else ""
    return cause[:MAX_REASON] or one_line(error)


class MlflowServer:
    """An MLflow server or database, through mlflow's client."""

    def __init__(self, client: MlflowClient, uri: str) -> None:
        self.client = client
        self.uri = uri

    def experiment(self, name: str, artifacts: Path | None, tags: Mapping[str, str]) -> str:
        with answers(self.uri):
            found = self.client.get_experiment_by_name(name)
            if found is None:
                found = self._made_experiment(name, artifacts)
            if found.lifecycle_stage != "active":
                raise RefusedError(f"the experiment {name!r} was deleted in MLflow: restore it there")
            for key, value in tags.items():
                if found.tags.get(key) != value:
                    self.client.set_experiment_tag(found.experiment_id, key, value)
        return str(found.experiment_id)

    def _made_experiment(self, name: str, artifacts: Path | None) -> Any:
        from mlflow.exceptions import MlflowException

        location = None if artifacts is None else artifacts.absolute().as_uri()
        try:
            self.client.create_experiment(name, artifact_location=location, tags=EXPERIMENT_TAGS)
        except MlflowException as error:
            # Another search of the same task was faster.
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
        found = self.client.get_experiment_by_name(name)
        if found is None:
            raise UnreachableError(f"the experiment {name!r} was created but cannot be found")
        return found

    def runs(self, experiment: str, search: str) -> list[FoundRun]:
        found: list[FoundRun] = []
        token: str | None = None
        with answers(self.uri):
            while True:
                page = self.client.search_runs(
                    [experiment], f"tags.`search.id` = '{search}'", max_results=PAGE, page_token=token
                )
                found += [_found(run) for run in page]
                token = page.token
                if not token:
                    return found

    def look(self, run_id: str) -> FoundRun | None:
        try:
            with answers(self.uri):
                return _found(self.client.get_run(run_id))
        except RefusedError as error:
            if not error.missing:
                raise
            return None

    def create(self, experiment: str, name: str, start_ms: int, tags: Mapping[str, str]) -> str:
        with answers(self.uri):
            run = self.client.create_run(experiment, start_time=start_ms, tags=dict(tags), run_name=name)
            return str(run.info.run_id)

    def log(self, run_id: str, part: Content) -> None:
        with answers(self.uri):
            from mlflow.entities import Metric, Param, RunTag

            metrics = [Metric(point.name, point.value, point.time_ms, point.step) for point in part.points]
            params = [Param(name, value) for name, value in part.params.items()]
            tags = [RunTag(name, value) for name, value in part.tags.items()]
            self.client.log_batch(run_id, metrics=metrics, params=params, tags=tags)

    def steps(self, run_id: str, metric: str) -> set[int]:
        with answers(self.uri):
            return {int(point.step) for point in self.client.get_metric_history(run_id, metric)}

    def put_artifacts(self, run_id: str, files: Mapping[str, str]) -> None:
        with answers(self.uri), tempfile.TemporaryDirectory(prefix="prune-search-") as folder:
            for name, text in files.items():
                (Path(folder) / name).parent.mkdir(parents=True, exist_ok=True)
                (Path(folder) / name).write_text(text, encoding="utf-8")
            self.client.log_artifacts(run_id, folder)

    def put_data(self, run_id: str, data: Sequence[DataSet]) -> None:
        with answers(self.uri):
            from mlflow.entities import Dataset, DatasetInput, InputTag

            inputs = [
                DatasetInput(
                    Dataset(name=item.name, digest=item.digest, source_type="local", source=item.name),
                    [InputTag("mlflow.data.context", "training")],
                )
                for item in data
            ]
            self.client.log_inputs(run_id, inputs)

    def set_status(self, run_id: str, status: str, end_ms: int | None) -> None:
        with answers(self.uri):
            if status == RUNNING:
                self.client.update_run(run_id, status=RUNNING)
            else:
                self.client.set_terminated(run_id, status=status, end_time=end_ms)

    def delete(self, run_id: str) -> None:
        with answers(self.uri):
            self.client.delete_run(run_id)


def _found(run: Run) -> FoundRun:
    tags = run.data.tags
    return FoundRun(
        run_id=str(run.info.run_id),
        key=str(tags.get("trial.id", "")),
        search=str(tags.get("search.id", "")),
        status=str(run.info.status),
        deleted=run.info.lifecycle_stage != "active",
        params=frozenset(run.data.params),
        metrics=frozenset(run.data.metrics),
    )
