"""Delivery of runs to MLflow: what is there already is never sent again, whatever was interrupted.

An operation is noted once MLflow has answered. Before anything is sent to a run that this process has not made itself,
or of which an answer was lost, MLflow is asked what the run holds. A run is found by its tags before it is made; where
the making of one was answered too late and it was made again, the one that is not noted is deleted.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from prune_search.tracking.memory import Memory
from prune_search.tracking.server import FoundRun, RefusedError, Server, UnreachableError
from prune_search.tracking.views import PARENT, RUNNING, Content, Rest, RunView, batches, digest, remaining

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
class Place:
    """Where a search goes in MLflow.

    Attributes:
        search: id of the search.
        experiment: its name.
        artifacts: where a new experiment keeps its files; None leaves that to the server.
    """

    search: str
    experiment: str
    artifacts: Path | None


@dataclass
class Delivery:
    """Delivers runs.

    Attributes:
        server: MLflow.
        place: where the search goes.
        memory: what is known to be there.
        refused: by key, what MLflow refused in the last round.
    """

    server: Server
    place: Place
    memory: Memory
    refused: dict[str, str] = field(default_factory=dict)
    _experiment: str | None = None
    _checked: set[str] = field(default_factory=set)
    _found: dict[str, FoundRun] = field(default_factory=dict)
    _survey_until: float = 0.0

    def send(self, views: Sequence[RunView]) -> Delivered:
        """Deliver what is missing of some runs; the parent is among them until it exists.

        Raises:
            UnreachableError: MLflow did not answer; what was answered until then is noted.
        """
        self._survey()
        self.refused.clear()
        # The parent must exist before its children; what it holds sums them up, and comes last.
        total = Delivered()
        ordered = sorted(views, key=lambda view: view.key == PARENT)
        for view in (view for view in views if view.key == PARENT):
            total += self._guarded(view, Content())
        for view in ordered:
            total += self._guarded(view, None)
        return total

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

    # --- what is there ------------------------------------------------------------------------------------------------

    def _survey(self) -> None:
        """Find the runs of the search that exist: once, and again while one may turn up late."""
        if self._experiment is None:
            self._experiment = self.server.experiment(self.place.experiment, self.place.artifacts)
        elif not self.unsettled:
            return
        groups: dict[str, list[FoundRun]] = {}
        for run in self.server.runs(self._experiment, self.place.search):
            groups.setdefault(run.key, []).append(run)
        for key, sent in list(self.memory.runs.items()):
            known = {run.run_id for run in groups.get(key, ())}
            if sent.run_id is not None and sent.run_id not in known:
                self._missing(key, sent.run_id)
        for key, runs in groups.items():
            self._adopt(key, runs)

    def _missing(self, key: str, run_id: str) -> None:
        """A run is noted and not found: a user deleted it, or the whole store is another one."""
        run = self.server.look(run_id)
        if run is None or (run.search, run.key) != (self.place.search, key):
            self.memory.note(key, {"forget": True})
        elif run.deleted:
            self.memory.note(key, {"gone": True})

    def _adopt(self, key: str, runs: list[FoundRun]) -> None:
        noted = self.memory.of(key).run_id
        runs.sort(key=lambda run: (run.run_id != noted, -len(run.metrics), run.run_id))
        kept = runs[0]
        for other in runs[1:]:
            self.server.delete(other.run_id)
        self._found[key] = kept
        if kept.run_id != noted:
            self.memory.note(key, {"run_id": kept.run_id, "status": kept.status, "params": sorted(kept.params)})
        elif self.memory.of(key).gone:
            self.memory.note(key, {"gone": False})

    # --- one run ------------------------------------------------------------------------------------------------------

    def _guarded(self, view: RunView, only: Content | None) -> Delivered:
        """Deliver a run; what MLflow refuses concerns this run alone."""
        try:
            return self._deliver(view, only)
        except RefusedError as error:
            self.refused[view.key] = f"{view.name}: {error}"
            self._checked.discard(view.key)
            run_id = self.memory.of(view.key).run_id
            if run_id is not None:
                self._missing(view.key, run_id)
            return Delivered()
        except UnreachableError:
            self._checked.discard(view.key)
            raise

    def _deliver(self, view: RunView, only: Content | None) -> Delivered:
        rest = remaining(view, self.memory.of(view.key))
        total = Delivered()
        if rest.create:
            parent = self.memory.of(PARENT)
            if view.key != PARENT and parent.run_id is None:
                return total
            total += self._create(view)
            rest = remaining(view, self.memory.of(view.key))
        if only is not None or not rest.operations:
            return total
        if view.key not in self._checked:
            self._check(view, rest)
            rest = remaining(view, self.memory.of(view.key))
        return total + self._fill(view, rest)

    def _create(self, view: RunView) -> Delivered:
        tags = dict(view.content.tags)
        if view.key != PARENT:
            tags["mlflow.parentRunId"] = str(self.memory.of(PARENT).run_id)
        try:
            run_id = self.server.create(str(self._experiment), view.name, view.times.start_ms, tags)
        except UnreachableError:
            self._survey_until = time.monotonic() + LATE_S
            raise
        self.memory.note(view.key, {"run_id": run_id, "status": RUNNING, "tags": _digests(tags)})
        self._checked.add(view.key)
        return Delivered(runs=1, operations=1 + len(tags))

    def _check(self, view: RunView, rest: Rest) -> None:
        """Ask which of the points that are to be sent are there already: of what was sent, an answer may be lost."""
        run_id = str(self.memory.of(view.key).run_id)
        if rest.content.points:
            names = sorted({point.name for point in rest.content.points})
            for name in names:
                there = self.server.steps(run_id, name)
                if there:
                    self.memory.note(view.key, {"steps": {name: sorted(there)}})
        self._checked.add(view.key)

    def _fill(self, view: RunView, rest: Rest) -> Delivered:
        key, content = view.key, rest.content
        run_id = str(self.memory.of(key).run_id)
        for part in batches(content):
            self.server.log(run_id, part)
            steps: dict[str, list[int]] = {}
            for point in part.points:
                steps.setdefault(point.name, []).append(point.step)
            self.memory.note(key, {"params": list(part.params), "tags": _digests(part.tags), "steps": steps})
        if content.data:
            self.server.put_data(run_id, content.data)
            self.memory.note(key, {"data": [item.digest for item in content.data]})
        if content.artifacts:
            self.server.put_artifacts(run_id, content.artifacts)
            self.memory.note(key, {"artifacts": _digests(content.artifacts)})
        if rest.status:
            self.server.set_status(run_id, view.status, view.times.end_ms)
            self.memory.note(key, {"status": view.status})
        return Delivered(metrics=len(content.points), operations=rest.operations)


def _digests(texts: object) -> dict[str, str]:
    return {name: digest(text) for name, text in dict(texts).items()}  # type: ignore[call-overload]


def waiting(views: Iterable[RunView], memory: Memory) -> int:
    """How many operations wait to be sent."""
    return sum(remaining(view, memory.of(view.key)).operations for view in views)
