"""Projects the ledger onto MLflow: a parent run per search, a child run per trial. Pure; no mlflow.

A stopped trial becomes FINISHED with the tag ``status: stopped``: the scheduler ended it as it should, and MLflow
paints KILLED in the red of a failure. So does a paused one, which is RUNNING again once it is promoted. KILLED is what
an interrupted search leaves behind, until it is resumed.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import Any

from prune_search.ledger.account import Account, account_of
from prune_search.ledger.finalists import winner_of
from prune_search.ledger.records import Record, SearchRecords, TrialRecords
from prune_search.ledger.state import State
from prune_search.recipe import strict_yaml
from prune_search.recipe.fidelity import fidelities_of
from prune_search.recipe.step import Step
from prune_search.storage.files import StorageError, open_regular
from prune_search.tracking.leaderboard import Placed, directions, fronts, goals_of, placed
from prune_search.tracking.names import MAX_TAG, allowed, allowed_params, cut, written
from prune_search.tracking.run_content import (
    FAILED,
    FINISHED,
    KILLED,
    PARENT,
    RUNNING,
    Content,
    DataSet,
    MetricValue,
    RunView,
    Times,
)
from prune_search.tracking.run_notes import parent_note, trial_note
from prune_search.tracking.ui_views import SEARCH, called, holes, is_logarithmic

NOTE, SOURCE = "mlflow.note.content", "mlflow.source.name"
MAX_DIGEST = 36
# The param ``fidelity`` of a trial that ran its recipe as it is.
FULL = "full"
# From here on a figure is a count.
MAX_ROUNDED = 1000
# Drawn by whoever runs the search, and put beside its records.
PICTURES = "pictures"
MAX_PICTURES, MAX_PICTURE = 50, 4 * 2**20
_STATUS = {"completed": FINISHED, "stopped": FINISHED, "paused": FINISHED, "failed": FAILED}
_PARENT_STATUS: dict[State, str] = {"running": RUNNING, "finished": FINISHED, "interrupted": KILLED}


def project(search: SearchRecords, state: State = "running") -> list[RunView]:
    """What MLflow should hold of a search: the parent first, then every trial that was begun.

    Args:
        search: the records.
        state: of the search; trials without an end are RUNNING only in a running one.
    """
    begun = [trial for trial in search.trials.values() if trial.attempts or trial.ended is not None]
    board = placed(search)
    front = fronts(board)
    return [project_parent(search, state, board), *(project_trial(search, trial, state, front) for trial in begun)]


@dataclass
class _Curve:
    """Points of which the first one at a (name, step) stays."""

    points: dict[tuple[str, int], MetricValue] = field(default_factory=dict)

    def add(self, metrics: Mapping[str, Any], step: int, time: float) -> None:
        for name, value in metrics.items():
            if isinstance(value, int | float) and math.isfinite(value):
                point = MetricValue(allowed(name), step, float(value), milliseconds(time))
                self.points.setdefault((point.name, step), point)


def milliseconds(time: float) -> int:
    """Seconds since the epoch in whole milliseconds."""
    return round(time * 1000)


def project_trial(
    search: SearchRecords, trial: TrialRecords, state: State = "running", front: Mapping[str, str] | None = None
) -> RunView:
    """The child run of a trial that was begun.

    Args:
        search: the records.
        trial: of them.
        state: of the search.
        front: where trials lie (see `leaderboard.fronts`); None: that is not told.
    """
    proposed = trial.proposed.data if trial.proposed is not None else {}
    begun = trial.attempts[0] if trial.attempts else trial.ended or trial.proposed
    times = Times(milliseconds(begun.time) if begun else 0, milliseconds(trial.ended.time) if trial.ended else None)
    if trial.ended is None:
        status = "running" if state == "running" else "interrupted"
        run_status = RUNNING if state == "running" else KILLED
    else:
        # A repeated recipe ends as the one that it repeats; that it is a duplicate stands in the tags.
        status, run_status = trial.status, _STATUS[trial.ended.data["status"]]
    result = _result(search, trial)
    content = Content(
        params=allowed_params(_params(search, trial)),
        tags={**_trial_tags(search, trial, status, result), **_front(trial, front or {})},
        points=_in_order(search, _trial_points(search, trial, result)),
        artifacts=_trial_artifacts(trial, result),
        data=_data_sets(trial.recipe, result),
    )
    return RunView(trial.id, str(proposed.get("name", trial.id)), run_status, times, content)


def _result(search: SearchRecords, trial: TrialRecords) -> Mapping[str, Any]:
    """A duplicate shows the result of the trial that it repeats."""
    if not trial.result and trial.duplicate_of is not None and trial.duplicate_of in search.trials:
        return search.trials[trial.duplicate_of].result
    return trial.result


def _params(search: SearchRecords, trial: TrialRecords) -> Iterator[tuple[str, str]]:
    label = trial.proposed.data.get("option", "") if trial.proposed is not None else ""
    if fidelities_of(search.definition["space"]["search"]):
        yield "fidelity", trial.fidelity or FULL
    logarithmic = log_scaled(search.definition, label)
    for path, value in trial.params.items():
        yield called(path), written(value)
        amount = _amount(value)
        if path in logarithmic and amount > 0:
            yield f"log10 {path}", f"{math.log10(amount):.6g}"


def log_scaled(definition: Mapping[str, Any], label: str) -> set[str]:
    """Dotted paths of the holes that are drawn on a log scale, in the option of ``any`` with that label."""
    options = definition["space"]["options"]
    chosen = [option for option in options if option.get("label", "") == label] or options
    found = (item for option in chosen for item in holes(option, ""))
    return {path for path, hole in found if is_logarithmic(hole)}


def _amount(value: Any) -> float:
    """A drawn number, or a step in its unit; 0 for what has no logarithm."""
    if isinstance(value, str):
        try:
            step = Step.parse(value)
        except ValueError:
            return 0.0
        if step.unit in ("epit", "end"):
            return 0.0
        return float(step.percent if step.percent is not None else step.epochs + step.iterations)
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else 0.0


def _trial_tags(search: SearchRecords, trial: TrialRecords, status: str, result: Mapping[str, Any]) -> dict[str, str]:
    proposed = trial.proposed.data if trial.proposed is not None else {}
    error = (trial.ended.data.get("error") if trial.ended is not None else None) or {}
    tags = {
        "search.id": search.definition["id"],
        "trial.id": trial.id,
        "kind": trial.kind,
        "status": status,
        "paradigm": proposed.get("paradigm"),
        "option": proposed.get("option"),
        "trial.key": result.get("key"),
        "mask.sha256": result.get("mask_sha256"),
        "duplicate_of": trial.duplicate_of,
        "error.kind": error.get("kind"),
        "simulated": search.simulated,
        SOURCE: PurePath(search.definition["source"]).name,
        NOTE: trial_note(search, trial, status),
    }
    return {name: cut(str(value), MAX_TAG) for name, value in tags.items() if value}


def _front(trial: TrialRecords, front: Mapping[str, str]) -> dict[str, str]:
    """Where it lies; a repeated recipe where the one lies that it repeats."""
    found = front.get(trial.duplicate_of or trial.id)
    return {} if found is None or trial.control else {"front": found}


def _trial_points(search: SearchRecords, trial: TrialRecords, result: Mapping[str, Any]) -> _Curve:
    curve = _Curve()
    for record in trial.measured:
        step = _steps(record)
        curve.add(record.data["metrics"], step, record.time)
        system = record.data.get("system") or {}
        curve.add({f"system/{name}": value for name, value in system.items()}, step, record.time)
        if _mature(record):
            curve.add({"sparsity": record.data.get("sparsity")}, step, record.time)
    if trial.ended is not None and result:
        metrics = result["metrics"]
        last = max([int(metrics.get("steps_trained") or 0), *(_steps(record) for record in trial.measured)])
        curve.add(metrics, last, trial.ended.time)
        curve.add({"steps_saved": account_of(trial).saved}, last, trial.ended.time)
        # A repeated recipe stands below what it repeats, and a low-fidelity trial below all: without the figures by
        # which the table is sorted.
        below = trial.duplicate_of is not None or trial.low_fidelity
        named = () if below else directions(goals_of(search))
        looked_at = {name: metrics[name] for name in named if metrics.get(name) is not None}
        curve.add({f"best/{name}": _shown(value) for name, value in looked_at.items()}, last, trial.ended.time)
    return curve


def _shown(value: float) -> float:
    """The figure of a table's column, which MLflow shows to its last digit; the metric itself has them all."""
    return float(f"{value:.5g}") if abs(value) < MAX_ROUNDED else value


def _in_order(search: SearchRecords, curve: _Curve) -> tuple[MetricValue, ...]:
    """What the search looks at first: MLflow's page that compares runs opens with the metric that came first."""
    places = {name: place for place, name in enumerate(directions(goals_of(search)))}
    return tuple(sorted(curve.points.values(), key=lambda point: places.get(point.name, len(places))))


def _steps(record: Record) -> int:
    return int(record.data["steps_trained"])


def _mature(record: Record) -> bool:
    """Whether the sparsity that was asked for was reached by then: gradual pruning measures on its way there too."""
    step = record.data["step"]
    return step is None or step >= 0


def _trial_artifacts(trial: TrialRecords, result: Mapping[str, Any]) -> dict[str, str]:
    artifacts = {"recipe.yaml": strict_yaml.dump(dict(trial.recipe))} if trial.recipe else {}
    if result:
        names = [
            *("key", "sparsity", "left_out", "layers", "collapsed", "search"),
            *("mask_sha256", "weights_sha256", "digests", "environment"),
        ]
        artifacts["receipt.json"] = _json({name: result[name] for name in names if name in result})
    return artifacts


def _json(data: Any) -> str:
    return json.dumps(data, indent=2, sort_keys=True) + "\n"


def _data_sets(recipe: Mapping[str, Any], result: Mapping[str, Any]) -> tuple[DataSet, ...]:
    found = result.get("digests", {}).get("data")
    named = recipe.get("task", {}).get("data")
    name = named.get("name") if isinstance(named, Mapping) else named
    return (DataSet(str(name), str(found)[:MAX_DIGEST]),) if found and name else ()


def project_parent(search: SearchRecords, state: State = "running", board: Sequence[Placed] | None = None) -> RunView:
    """The run of the search itself.

    Args:
        search: the records.
        state: of the search.
        board: its trials in their order (see `leaderboard.placed`), where they are known already.
    """
    definition = search.definition
    board = placed(search) if board is None else board
    pictures = {} if state == "running" else _pictures(search)
    ends = [milliseconds(trial.ended.time) for trial in search.trials.values() if trial.ended is not None]
    start = milliseconds(definition["created"])
    times = Times(start, None if state == "running" else max([start, *ends]))
    data = {item: None for place in board for item in _data_sets(place.trial.recipe, place.trial.result)}
    content = Content(
        params=allowed_params(_plan(definition["space"]["search"])),
        tags={
            "search.id": definition["id"],
            "kind": SEARCH,
            "status": state,
            **({"simulated": search.simulated} if search.simulated else {}),
            SOURCE: PurePath(definition["source"]).name,
            NOTE: cut(parent_note(search, board, state, [*pictures]), MAX_TAG),
        },
        points=tuple(_summary(search).points.values()),
        artifacts={
            "space.yaml": definition["text"],
            "plan.json": _json(definition["space"]["search"]),
            "leaderboard.json": _json(_leaderboard(search, board)),
            **pictures,
        },
        data=tuple(data),
    )
    return RunView(PARENT, search.name, _PARENT_STATUS[state], times, content)


def _pictures(search: SearchRecords) -> dict[str, str]:
    """What was drawn of the search when it ended, by the name of the artifact."""
    found = {}
    folder = search.folder / PICTURES
    try:
        files = sorted((path for path in folder.iterdir() if path.name.endswith(".svg")), key=lambda path: path.name)
    except (OSError, StorageError):
        # None were drawn (yet).
        return {}
    for path in files[:MAX_PICTURES]:
        try:
            with open_regular(path) as file:
                found[f"{PICTURES}/{path.name}"] = file.read(MAX_PICTURE).decode("utf-8")
        except (OSError, ValueError, StorageError):
            # It is no text.
            continue
    return found


def _plan(block: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """How the search was asked for, as params."""
    for key in ("sampler", "scheduler"):
        yield f"search.{key}", written(block[key]["name"] if isinstance(block[key], Mapping) else block[key])
    for key in ("objectives", "constraints"):
        if block[key]:
            yield f"search.{key}", ", ".join(block[key])
    if forms := fidelities_of(block):
        yield "search.fidelity", "; ".join(form.label for form in forms)
    for key in ("trials", "concurrency", "seed", "reproducible"):
        yield f"search.{key}", written(block[key])


def _summary(search: SearchRecords) -> _Curve:
    """Totals and the best so far, over trials and controls in the order in which they ended; x is how many have.

    The steps are those of all, as everywhere; only trials are counted, and only they can be the best: by their own
    figures, and once finalists are repeated by the winner's means.
    """
    goals, dense, curve = goals_of(search), search.dense, _Curve()
    counts = dict.fromkeys(("completed", "stopped", "failed", "duplicates"), 0)
    steps = Account()
    best: TrialRecords | None = None
    # A paused trial can still end in another way.
    ends = [(trial.ended, trial) for trial in search.trials.values() if trial.ended is not None and not trial.paused]
    ends.sort(key=lambda end: (end[0].time, end[1].id))
    end = winner_of(search)
    means = end.finalists[0].stand_in().metrics if end.finalists else {}
    repeats = [trial for one in end.finalists for trial in one.repeats]
    repeated = max((trial.ended.time for trial in repeats if trial.ended is not None), default=math.inf)
    for number, (ended, trial) in enumerate(ends, start=1):
        steps += account_of(trial)
        if not trial.control:
            counts["duplicates" if trial.status == "duplicate" else trial.status] += 1
            if trial.status == "completed" and goals.meets(trial, dense):
                best = trial if best is None else min(best, trial, key=lambda one: goals.order(one, dense))
        curve.add({**counts, **steps.as_data()}, number, ended.time)
        if best is not None:
            metrics = best.metrics if ended.time < repeated else means
            figures = {f"best/{name}": metrics[name] for _, name in goals.objectives}
            curve.add({name: _shown(value) for name, value in figures.items()}, number, ended.time)
    return curve


def _leaderboard(search: SearchRecords, board: Sequence[Placed]) -> dict[str, Any]:
    rows = [
        {
            "rank": rank,
            "trial": place.trial.id,
            "name": place.trial.proposed.data["name"] if place.trial.proposed is not None else place.trial.id,
            "paradigm": place.trial.result.get("paradigm"),
            "key": place.trial.result.get("key"),
            "pareto": place.pareto,
            "violation": place.violation,
            "params": dict(place.trial.params),
            "metrics": dict(place.trial.metrics),
        }
        for rank, place in enumerate(board, start=1)
    ]
    controls = [{"name": trial.id, "metrics": dict(trial.metrics)} for trial in search.controls() if trial.result]
    return {"search": search.name, "trials": rows, "controls": controls}
