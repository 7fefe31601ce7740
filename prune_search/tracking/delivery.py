"""Delivers runs to MLflow; never sends anything twice, even after an interruption.

An operation is noted once MLflow has answered. Before a metric is sent to a run that this process has not made itself,
or after an answer about it was lost, MLflow is asked which of its values are there. A run is found by its tags before
it is made; where the making of one was answered too late and it was made again, the one that is not noted is deleted.
Files are often kept elsewhere than runs, so that trouble with them keeps nothing else back.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from prune_search.tracking.delivered_log import DeliveredLog
from prune_search.tracking.run_content import PARENT, RUNNING, Content, Rest, RunView, batches, digests, remaining
from prune_search.tracking.server import FilesError, FoundRun, RefusedError, Server, UnreachableError
from prune_search.tracking.ui_views import EXPERIMENT, RUN

# A server that gave no answer may carry a call out this much later.
LATE_S = 120.0


@dataclass(frozen=True)
class Delivered:
    """What was sent.

    Attributes:
        runs: that were made.
        metrics: values.
        operations: everything: runs, params, tags, values, artifacts, data sets, status changes.
    """

    runs: int = 0
    metrics: int = 0
    operations: int = 0

    def __add__(self, other: Delivered) -> Delivered:
        return Delivered(self.runs + other.runs, self.metrics + other.metrics, self.operations + other.operations)


@dataclass
class Destination:
    """Where a search goes in MLflow.

    Attributes:
        search: id of the search.
        experiment: its name.
        artifacts: where a new experiment keeps its files; None leaves that to the server.
        tags: that the experiment should have.
    """

    search: str
    experiment: str
    artifacts: Path | None
    tags: Mapping[str, str] = field(default_factory=dict)


@dataclass
class Delivery:
    """Delivers runs.

    Attributes:
        server: MLflow.
        place: where the search goes.
        memory: what is known to be there.
        given_up: asked between two runs; True ends the delivery.
        refused: by key, what MLflow refused in the last round.
        sent: everything that was sent so far.
    """

    server: Server
    place: Destination
    memory: DeliveredLog
    given_up: Callable[[], bool] = lambda: False
    refused: dict[str, str] = field(default_factory=dict)
    sent: Delivered = field(default_factory=Delivered)
    _experiment: str | None = None
    # By key, the metrics of which MLflow may hold more than is noted.
    _unsure: dict[str, set[str]] = field(default_factory=dict)
    _survey_until: float = 0.0
    _files_trouble: str = ""

    def send(self, views: Sequence[RunView]) -> None:
        """Deliver what is missing of some runs; the parent is among them until it exists.

        Raises:
            UnreachableError: MLflow did not answer; what was answered until then is noted.
            FilesError: all is delivered but files.
        """
        self._survey()
        self.refused.clear()
        self._files_trouble = ""
        if self.memory.of(PARENT).gone:
            return
        # The parent must exist before its children; what it holds sums them up, and comes last.
        ordered = sorted(views, key=lambda view: view.key == PARENT)
        for view in ordered[-1:]:
            self._guarded(view, self._create)
        for view in ordered:
            if self.given_up():
                break
            self._guarded(view, self._create)
            self._guarded(view, self._complete)
        if self._files_trouble:
            raise FilesError(self._files_trouble)

    @property
    def unsettled(self) -> bool:
        """Whether a run may still turn up of whose making no answer came."""
        return time.monotonic() < self._survey_until

    def settle(self) -> None:
        """Look for such runs now.

        Raises:
            UnreachableError: MLflow did not answer.
        """
        self._survey()

    def retag(self, tags: Mapping[str, str]) -> None:
        """Give the experiment other tags, once runs have been looked for.

        Raises:
            UnreachableError: MLflow did not answer.
        """
        if self._experiment is not None and dict(tags) != dict(self.place.tags):
            self.server.experiment(self.place.experiment, self.place.artifacts, tags)
            self.place.tags = tags

    # --- what is there ------------------------------------------------------------------------------------------------

    def _survey(self) -> None:
        """Find the runs of the search that exist: once, and again while one may turn up late."""
        first = self._experiment is None
        if not first and not self.unsettled:
            return
        experiment = self._experiment or self.server.experiment(
            self.place.experiment, self.place.artifacts, self.place.tags
        )
        groups: dict[str, list[FoundRun]] = {}
        for run in self.server.runs(experiment, self.place.search):
            groups.setdefault(run.key, []).append(run)
        for key, sent in list(self.memory.runs.items()):
            if sent.run_id is not None and key not in groups:
                self._missing(key, sent.run_id)
        for key, runs in groups.items():
            self._adopt(key, runs, first)
        self._experiment = experiment
        self.memory.note_experiment(experiment)

    def _missing(self, key: str, run_id: str) -> None:
        """A run is noted and not found: a user deleted it, or the whole store is another one."""
        run = self.server.look(run_id)
        if run is None or (run.search, run.key) != (self.place.search, key):
            self.memory.note(key, {"forget": True})
        elif run.deleted:
            self.memory.note(key, {"gone": True})
        else:
            self._unsure[key] = set(run.metrics)

    def _adopt(self, key: str, runs: list[FoundRun], first: bool) -> None:
        """Take a run that was found as the one to write to, and delete others of the same trial."""
        noted = self.memory.of(key).run_id
        runs.sort(key=lambda run: (run.run_id != noted, -len(run.metrics), run.run_id))
        kept = runs[0]
        for other in runs[1:]:
            self.server.delete(other.run_id)
        if first or kept.run_id != noted:
            self._unsure[key] = set(kept.metrics)
        if kept.run_id != noted:
            self.memory.note(key, {"forget": True})
            self.memory.note(key, {"run_id": kept.run_id, "status": kept.status, "params": sorted(kept.params)})
        elif self.memory.of(key).gone:
            self.memory.note(key, {"gone": False})

    # --- one run ------------------------------------------------------------------------------------------------------

    def _guarded(self, view: RunView, deliver: Callable[[RunView], None]) -> None:
        """Deliver something of a run; what MLflow refuses concerns this run alone."""
        try:
            deliver(view)
        except RefusedError as error:
            self.refused[view.key] = f"{view.name}: {error}"
            run_id = self.memory.of(view.key).run_id
            if run_id is None:
                # The experiment may be gone: it is looked up anew.
                self._experiment = None
            else:
                self._missing(view.key, run_id)

    def _create(self, view: RunView) -> None:
        parent = self.memory.of(PARENT)
        ready = view.key == PARENT or (parent.run_id is not None and not parent.gone)
        if not ready or not remaining(view, self.memory.of(view.key)).create:
            return
        # What names the run itself waits until it has a number.
        known = {name: value for name, value in view.content.tags.items() if RUN not in value}
        tags = self._numbered(known)
        if view.key != PARENT:
            tags["mlflow.parentRunId"] = str(parent.run_id)
        try:
            run_id = self.server.create(str(self._experiment), view.name, view.times.start_ms, tags)
        except UnreachableError:
            self._survey_until = time.monotonic() + LATE_S
            raise
        self.memory.note(view.key, {"run_id": run_id, "status": RUNNING, "tags": digests(known)})
        self._unsure.pop(view.key, None)
        self.sent += Delivered(runs=1, operations=1 + len(known))

    def _complete(self, view: RunView) -> None:
        rest = remaining(view, self.memory.of(view.key))
        if not rest.create and rest.operations:
            self._ask(view.key, {point.name for point in rest.content.points})
            self._fill(view, remaining(view, self.memory.of(view.key)))

    def _numbered(self, tags: Mapping[str, str]) -> dict[str, str]:
        """Tags with the numbers of the experiment and of the search's run in their links."""
        run = str(self.memory.of(PARENT).run_id)
        return {k: value.replace(EXPERIMENT, str(self._experiment)).replace(RUN, run) for k, value in tags.items()}

    def _ask(self, key: str, names: set[str]) -> None:
        """Ask for the steps of metrics that are to be sent and of which it is not sure what is there."""
        unsure, run_id = self._unsure.get(key, set()), str(self.memory.of(key).run_id)
        for name in sorted(unsure & names):
            self.memory.note(key, {"steps": {name: sorted(self.server.steps(run_id, name))}})
            unsure.discard(name)

    def _fill(self, view: RunView, rest: Rest) -> None:
        key, content = view.key, rest.content
        run_id = str(self.memory.of(key).run_id)
        for part in batches(content):
            self._log(key, run_id, part)
        if content.data:
            self.server.put_data(run_id, content.data)
            self.memory.note(key, {"data": [item.digest for item in content.data]})
            self.sent += Delivered(operations=len(content.data))
        if rest.status:
            self.server.set_status(run_id, view.status, view.times.end_ms)
            self.memory.note(key, {"status": view.status})
            self.sent += Delivered(operations=1)
        self._store(key, run_id, content.artifacts)

    def _log(self, key: str, run_id: str, part: Content) -> None:
        steps: dict[str, list[int]] = {}
        for point in part.points:
            steps.setdefault(point.name, []).append(point.step)
        try:
            self.server.log(run_id, replace(part, tags=self._numbered(part.tags)))
        except (UnreachableError, RefusedError):
            self._unsure.setdefault(key, set()).update(steps)
            raise
        self.memory.note(key, {"params": list(part.params), "tags": digests(part.tags), "steps": steps})
        points = len(part.points)
        self.sent += Delivered(metrics=points, operations=points + len(part.params) + len(part.tags))

    def _store(self, key: str, run_id: str, files: Mapping[str, str]) -> None:
        """Store files; after the first trouble no others are tried in this round."""
        if not files or self._files_trouble:
            return
        try:
            self.server.put_artifacts(run_id, files)
        except (UnreachableError, RefusedError) as error:
            self._files_trouble = str(error)
        else:
            self.memory.note(key, {"artifacts": digests(files)})
            self.sent += Delivered(operations=len(files))


def waiting(views: Iterable[RunView], memory: DeliveredLog) -> int:
    """How many operations wait to be sent; none of a search whose run a user deleted."""
    if memory.of(PARENT).gone:
        return 0
    return sum(remaining(view, memory.of(view.key)).operations for view in views)
