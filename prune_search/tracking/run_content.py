"""The desired content of an MLflow run, what is known to be there, and the difference. Plain values, no mlflow."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

PARENT = ""
RUNNING, FINISHED, FAILED, KILLED = "RUNNING", "FINISHED", "FAILED", "KILLED"


@dataclass(frozen=True)
class MetricValue:
    """One value of a metric.

    Attributes:
        name: the metric's name.
        step: where on the x axis; (name, step) is there once in a run.
        value: a finite number.
        time_ms: milliseconds since the epoch, of the record that it comes from, so that a second delivery is equal.
    """

    name: str
    step: int
    value: float
    time_ms: int


@dataclass(frozen=True)
class DataSet:
    """A data set that a run read.

    Attributes:
        name: the data set's name.
        digest: of its arrays and split, at most 36 characters.
    """

    name: str
    digest: str


@dataclass(frozen=True)
class Times:
    """When a run began and ended, in milliseconds since the epoch; the end is None while it runs."""

    start_ms: int
    end_ms: int | None


@dataclass(frozen=True)
class Content:
    """What a run holds.

    Attributes:
        params: name to value; a param never changes.
        tags: name to value; a tag may change.
        points: values of metrics; (name, step) once.
        artifacts: file name to text.
        data: the data sets that were read.
    """

    params: Mapping[str, str] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)
    points: tuple[MetricValue, ...] = ()
    artifacts: Mapping[str, str] = field(default_factory=dict)
    data: tuple[DataSet, ...] = ()


@dataclass(frozen=True)
class RunView:
    """A run as it should stand in MLflow.

    Attributes:
        key: the trial's id, or `PARENT` for the run of the search.
        name: of the run.
        status: RUNNING, FINISHED, FAILED or KILLED.
        times: of the run.
        content: what it holds.
    """

    key: str
    name: str
    status: str
    times: Times
    content: Content


@dataclass
class Sent:
    """What is known to be in MLflow of a run.

    Attributes:
        run_id: MLflow's id of it; None where it is not known to exist.
        status: as it was last set.
        gone: a user deleted the run in MLflow; it is left alone.
        params: names.
        tags: name to digest of the value.
        steps: metric to its steps.
        artifacts: file name to digest of the text.
        data: digests of data sets.
    """

    run_id: str | None = None
    status: str = ""
    gone: bool = False
    params: set[str] = field(default_factory=set)
    tags: dict[str, str] = field(default_factory=dict)
    steps: dict[str, set[int]] = field(default_factory=dict)
    artifacts: dict[str, str] = field(default_factory=dict)
    data: set[str] = field(default_factory=set)


@dataclass(frozen=True)
class Rest:
    """What of a run is still to be sent.

    Attributes:
        create: whether the run does not exist yet.
        status: whether its status differs.
        content: the parts that are missing or have changed.
    """

    create: bool
    status: bool
    content: Content

    @property
    def operations(self) -> int:
        """How many things wait: the run itself, its status, and every param, tag, value, artifact and data set."""
        parts = self.content
        several = (parts.params, parts.tags, parts.points, parts.artifacts, parts.data)
        return int(self.create) + int(self.status) + sum(map(len, several))


def digest(text: str) -> str:
    """A short digest by which a changed tag or artifact is known."""
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def digests(texts: Mapping[str, str]) -> dict[str, str]:
    """The digest of each text."""
    return {name: digest(text) for name, text in texts.items()}


def remaining(view: RunView, sent: Sent) -> Rest:
    """What is still to be sent of a run; nothing of one that a user deleted."""
    if sent.gone:
        return Rest(create=False, status=False, content=Content())
    wanted = view.content
    missing = Content(
        params={name: value for name, value in wanted.params.items() if name not in sent.params},
        tags={name: value for name, value in wanted.tags.items() if sent.tags.get(name) != digest(value)},
        points=tuple(point for point in wanted.points if point.step not in sent.steps.get(point.name, ())),
        artifacts={name: text for name, text in wanted.artifacts.items() if sent.artifacts.get(name) != digest(text)},
        data=tuple(item for item in wanted.data if item.digest not in sent.data),
    )
    # A run is born RUNNING.
    status = view.status != (sent.status or RUNNING)
    return Rest(create=sent.run_id is None, status=status, content=missing)


def batches(content: Content, most_points: int = 500, most_names: int = 90) -> Iterator[Content]:
    """Params, tags and points in parts that MLflow takes in one call; artifacts and data sets are left out."""
    params, tags, points = list(content.params.items()), list(content.tags.items()), content.points
    while params or tags or points:
        yield Content(dict(params[:most_names]), dict(tags[:most_names]), points[:most_points])
        params, tags, points = params[most_names:], tags[most_names:], points[most_points:]
