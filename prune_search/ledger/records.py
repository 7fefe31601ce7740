"""The ledger of a search: append-only records, each written as one immutable file. No torch.

    <storage>/searches/<name>/
        search.json                      what is searched: the space, how trials are run; written once
        lease.json                       who holds it
        trials/<id>/<kind>-<attempt>-<n>.json
        trials/<id>/progress-<attempt>.json

A trial's id is its number (``000012``), the name of a control (``control-dense``), that of a finalist's repetition on a
new seed (``finalist-000012-1001``), or that of a low-fidelity trial (``low-fidelity-000003``). The kinds are

    proposed   recipe, params, option of ``any``, what the sampler must remember; duplicate_of where it was seen before;
               fidelity of a low-fidelity trial: its form, and the recipe that it stands in for
    started    attempt, host, pid
    measured   metrics after a round, or at a step of the last retraining
    ended      status (completed, stopped, paused, failed), result or error; of a paused one what was measured there
    promoted   a paused trial goes on; its end as paused counts no more

The progress of an attempt is the one file that is written again and again, by the worker alone: what it has trained so
far, and which states of the shared tree are there. Of a worker that was killed it is all that is left.

Records are the truth: the sampler's study, the scheduler's rungs, the queue of trials and MLflow's runs are computed
from them. Where two attempts of one trial both ended, the first record by name counts, so a worker that outlives its
driver does no harm.
"""

from __future__ import annotations

import math
import re
import time
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Literal

from prune_search.ledger.progress import Progress, progress_of
from prune_search.ledger.tracking_uri import uri_of
from prune_search.recipe.problems import Problem, UserError, shown
from prune_search.recipe.recipe import canonical_json
from prune_search.storage.files import make_folder, put_file
from prune_search.storage.json_files import read_json
from prune_search.storage.names import safe_child
from prune_search.storage.places import SomePlace, StoragePath, below

Kind = Literal["proposed", "started", "measured", "ended", "promoted"]
Status = Literal["completed", "stopped", "paused", "failed"]
KINDS: tuple[Kind, ...] = ("proposed", "started", "measured", "ended", "promoted")
PAUSED = "paused"
FORMAT = 1
DENSE = "control-dense"
# What the ids of a finalist's repetitions begin with.
FINALIST = "finalist-"
# What the ids of low-fidelity trials begin with.
LOW_FIDELITY = "low-fidelity-"
_PROGRESS = re.compile(r"progress-(?P<attempt>[0-9]{3})\.json")
SEARCHES, SEARCH_FILE, TRIALS = "searches", "search.json", "trials"
# Written where a search is over before all its trials are proposed (a time budget, an exhausted grid).
ENDED_FILE = "ended.json"


@dataclass(frozen=True)
class Record:
    """One thing that happened.

    Attributes:
        trial: the trial's id.
        kind: what happened.
        attempt: which attempt of the trial it belongs to, from 1.
        number: tells records of one kind and attempt apart, in their order.
        time: seconds since the epoch, when it was written.
        data: plain data.
    """

    trial: str
    kind: Kind
    attempt: int
    number: int
    time: float
    data: Mapping[str, Any]

    @cached_property
    def figures(self) -> Mapping[str, Any]:
        """The metrics of a ``measured`` record, with the sparsity and the steps that it tells beside them."""
        beside = {name: self.data.get(name) for name in ("sparsity", "steps_trained")}
        return {**beside, **self.data["metrics"]}


@dataclass
class TrialRecords:
    """Everything that is known of one trial.

    Attributes:
        id: its number with leading zeros, or ``control-…``.
        proposed: what was proposed.
        attempts: started attempts.
        measured: by (round, step of the last retraining or None): metrics, first write wins; in the order of the file.
        ended: how it ended, or None; also of a paused one, until it is promoted.
        progress: by attempt, how far it is.
        promotions: how often it was paused and went on, in that order.
    """

    id: str
    proposed: Record | None = None
    attempts: list[Record] = field(default_factory=list)
    measured: list[Record] = field(default_factory=list)
    ended: Record | None = None
    progress: dict[int, Progress] = field(default_factory=dict)
    promotions: list[Record] = field(default_factory=list)
    _places: dict[tuple[Any, Any], Record] = field(default_factory=dict, init=False, repr=False, compare=False)
    # What a reader has computed from records that will not change.
    computed: dict[Any, Any] = field(default_factory=dict, init=False, repr=False, compare=False)

    def add_measured(self, record: Record) -> None:
        """Take in a ``measured`` record; the first one at a (round, step) stays."""
        place = (record.data.get("round"), record.data.get("step"))
        if self._at().setdefault(place, record) is record:
            self.measured.append(record)

    def measured_at(self, number: int, step: int | None) -> Record | None:
        """What was measured in a round, at a step of its retraining, or at its end (None)."""
        return self._at().get((number, step))

    def _at(self) -> dict[tuple[Any, Any], Record]:
        if len(self._places) != len(self.measured):
            self._places = {(record.data.get("round"), record.data.get("step")): record for record in self.measured}
        return self._places

    @property
    def control(self) -> bool:
        """Whether it is outside the count of trials: a control, a finalist's repetition, or a low-fidelity trial.

        Such a trial is never ranked, recommended, stopped by a scheduler or told to a sampler as a result.
        """
        return self.id.startswith(("control-", FINALIST, LOW_FIDELITY))

    @property
    def low_fidelity(self) -> bool:
        """Whether it ran a cheaper recipe in the place of another one."""
        return self.id.startswith(LOW_FIDELITY)

    @property
    def fidelity(self) -> str:
        """Of a low-fidelity trial, which form of its recipe it ran (``steps 0.25``); empty for every other trial."""
        told = {} if self.proposed is None else self.proposed.data.get("fidelity") or {}
        return str(told.get("label", ""))

    @property
    def kind(self) -> str:
        """trial, control, finalist or low-fidelity."""
        if self.low_fidelity:
            return "low-fidelity"
        return "finalist" if self.repetition else "control" if self.control else "trial"

    @property
    def repetition(self) -> bool:
        """Whether it repeats a finalist on a new seed."""
        return self.id.startswith(FINALIST)

    @property
    def status(self) -> str:
        """completed, stopped, paused, failed, duplicate, running or waiting."""
        if self.ended is not None:
            return "duplicate" if self.duplicate_of is not None else str(self.ended.data["status"])
        return "waiting" if not self.attempts or self.put_off else "running"

    @property
    def put_off(self) -> bool:
        """Whether its last attempt waits, without a worker, for training that another trial does."""
        last = self.progress.get(self.attempts[-1].attempt) if self.attempts else None
        return last is not None and last.put_off

    @property
    def paused(self) -> Mapping[str, Any] | None:
        """What was measured where the trial rests, as a ``measured`` record has it; None where it does not rest."""
        resting = self.ended is not None and self.ended.data["status"] == PAUSED
        return self.ended.data[PAUSED] if self.ended is not None and resting else None

    @property
    def turn(self) -> int:
        """The place of its latest start among the search's decisions: whether it was proposed then, or promoted."""
        return int(self.promotions[-1].data["turn"]) if self.promotions else self._proposed_at()

    def turn_at(self, measured: Record) -> int:
        """The turn of the start that led to a measurement of this trial."""
        before = [one for one in self.promotions if place_in(one.data) < place_in(measured.data)]
        return int(before[-1].data["turn"]) if before else self._proposed_at()

    def _proposed_at(self) -> int:
        turn = None if self.proposed is None else self.proposed.data.get("turn")
        # Where nothing is promoted, turns are the numbers of the trials.
        return int(turn) if turn is not None else int(self.id) if self.id.isdecimal() else 0

    @property
    def alone(self) -> bool:
        """Whether it needs a whole device: its share of one had too little memory."""
        return any(progress.oom for progress in self.progress.values())

    @property
    def retries(self) -> int:
        """Attempts that were made because one before them did not end: lost, out of memory, or asked to stop."""
        before = (self.progress.get(record.attempt, Progress()) for record in self.attempts[:-1])
        return sum(progress.lacking is None for progress in before)

    @property
    def duplicate_of(self) -> str | None:
        """The id of the trial with the same recipe, or None."""
        return None if self.proposed is None else self.proposed.data.get("duplicate_of")

    @property
    def recipe(self) -> Mapping[str, Any]:
        """The canonical recipe."""
        recipe: Mapping[str, Any] = {} if self.proposed is None else self.proposed.data["recipe"]
        return recipe

    @property
    def params(self) -> Mapping[str, Any]:
        """What was drawn, by dotted path."""
        params: Mapping[str, Any] = {} if self.proposed is None else self.proposed.data["params"]
        return params

    @property
    def result(self) -> Mapping[str, Any]:
        """The result's data (see `trial.result.Result.as_data`), empty where there is none."""
        result: Mapping[str, Any] = {} if self.ended is None else self.ended.data.get("result") or {}
        return result

    @property
    def metrics(self) -> Mapping[str, float]:
        """The metrics of the final network; of a stopped trial, the last ones measured.

        Of a trial with a result they are the result's, which is stored for good; what the record of its last round and
        the last of the result's rounds say of the same network are copies.
        """
        if self.result:
            metrics: Mapping[str, float] = self.result["metrics"]
            return metrics
        return self.measured[-1].data["metrics"] if self.measured else {}


@dataclass
class SearchRecords:
    """A search as its records tell it.

    Attributes:
        name: of the search.
        folder: where it lies.
        definition: search.json.
        trials: by id, in the order of their numbers; controls after them. Changed through `put` alone.
        at_work: ids of the trials that have a worker, where this process runs the search; None elsewhere.
    """

    name: str
    folder: StoragePath
    definition: Mapping[str, Any]
    trials: dict[str, TrialRecords]
    at_work: Collection[str] | None = None

    _numbered: tuple[list[TrialRecords], dict[str, int]] | None = field(default=None, init=False, repr=False)

    def put(self, trial: TrialRecords) -> None:
        """Take in a trial, or a later reading of one, in its place; a new one comes last."""
        new = trial.id not in self.trials
        self.trials[trial.id] = trial
        if self._numbered is not None and not trial.control:
            numbered, places = self._numbered
            if new:
                places[trial.id] = len(numbered)
                numbered.append(trial)
            else:
                numbered[places[trial.id]] = trial

    def numbered(self) -> list[TrialRecords]:
        """The trials that count, in the order of their numbers. The list is not the caller's to change."""
        if self._numbered is None:
            numbered = [trial for trial in self.trials.values() if not trial.control]
            self._numbered = numbered, {trial.id: place for place, trial in enumerate(numbered)}
        return self._numbered[0]

    def controls(self) -> list[TrialRecords]:
        """The controls."""
        return [trial for trial in self.trials.values() if trial.kind == "control"]

    def low_fidelity(self) -> list[TrialRecords]:
        """The low-fidelity trials, in the order of their numbers."""
        return [trial for trial in self.trials.values() if trial.low_fidelity]

    @property
    def dense(self) -> Mapping[str, float] | None:
        """The metrics of the dense control; None while they are not there."""
        control = self.trials.get(DENSE)
        return control.metrics if control is not None and control.result else None

    @property
    def tracking_uri(self) -> str:
        """Where its MLflow is."""
        return uri_of(self.definition, self.folder.parent.parent)

    @property
    def simulated(self) -> str | None:
        """The name of the surface that stands in for training; None where trials are trained."""
        surface = (self.definition.get("simulated") or {}).get("surface")
        return surface["name"] if isinstance(surface, Mapping) else surface

    def counts(self) -> dict[str, int]:
        """How many trials that count have each status."""
        counts = dict.fromkeys(("completed", "stopped", "paused", "failed", "duplicate", "running", "waiting"), 0)
        for trial in self.numbered():
            counts[trial.status] += 1
        return counts


def ended_in(counts: Mapping[str, int]) -> int:
    """How many trials have ended, of `SearchRecords.counts`."""
    return sum(counts[name] for name in ("completed", "stopped", "paused", "failed", "duplicate"))


def place_in(data: Mapping[str, Any]) -> tuple[int, float]:
    """Where on its way a trial was measured, or paused: comparable among the places of one trial."""
    return int(data["round"]), math.inf if data["step"] is None else float(data["step"])


def trial_id(number: int) -> str:
    """The id of trial `number`, from 1."""
    return f"{number:06d}"


def low_fidelity_id(number: int) -> str:
    """The id of low-fidelity trial `number`, from 1."""
    return f"{LOW_FIDELITY}{number:06d}"


def search_folder(storage: SomePlace, name: str) -> SomePlace:
    """Where a search lies.

    Raises:
        UserError: the name has other characters than letters, digits, dot, dash and underscore.
    """
    return safe_child(below(storage, SEARCHES), name)


@dataclass
class Recorder:
    """Writes the records of one trial's attempt. There is one writer per trial and attempt.

    Attributes:
        folder: of the search.
        trial: the trial's id.
        attempt: from 1.
    """

    folder: StoragePath
    trial: str
    attempt: int = 1
    _numbers: dict[str, int] = field(default_factory=dict)

    def write(self, kind: Kind, data: Mapping[str, Any]) -> Record:
        """Store one record.

        Raises:
            StorageError: it could not be written.
            ValueError: the data are no plain JSON data.
        """
        number = self._numbers.get(kind, 0)
        self._numbers[kind] = number + 1
        record = Record(self.trial, kind, self.attempt, number, time.time(), data)
        folder = self.folder / TRIALS / self.trial
        make_folder(folder)
        content = {"format": FORMAT, "kind": kind, "attempt": self.attempt, "time": record.time, "data": dict(data)}
        path = folder / f"{kind}-{self.attempt:03d}-{number:06d}.json"
        # A measurement is made again where its trial goes on; there are many of them.
        put_file(path, (canonical_json(content) + "\n").encode(), lasting=kind != "measured")
        return record

    def progress(self, progress: Progress) -> None:
        """Store how far the attempt is.

        Raises:
            StorageError: it could not be written.
        """
        folder = self.folder / TRIALS / self.trial
        content = {"format": FORMAT, "progress": vars(progress)}
        put_file(folder / f"progress-{self.attempt:03d}.json", canonical_json(content).encode(), lasting=False)


def read_progress(path: StoragePath) -> tuple[int, Progress] | None:
    """The attempt and its progress, or None where the file is none."""
    match = _PROGRESS.fullmatch(path.name)
    if match is None:
        return None
    try:
        return int(match["attempt"]), progress_of(read_json(path)["progress"])
    except (UserError, KeyError, TypeError, ValueError, AttributeError, IndexError):
        return None


def read_record(path: StoragePath) -> Record | None:
    """One record, or None where the file is none (cut, foreign, of a newer format)."""
    parts = path.name.removesuffix(".json").split("-")
    if not path.name.endswith(".json") or len(parts) != 3 or parts[0] not in KINDS:
        return None
    try:
        content = read_json(path)
        return Record(
            trial=path.parent.name,
            kind=parts[0],
            attempt=int(parts[1]),
            number=int(parts[2]),
            time=float(content["time"]),
            data=dict(content["data"]),
        )
    except (UserError, KeyError, TypeError, ValueError):
        return None


def read_trial(folder: StoragePath) -> TrialRecords:
    """What is known of the trial in a folder."""
    found: list[Record] = []
    progress: dict[int, Progress] = {}
    for path in folder.iterdir():
        record = read_record(path)
        if record is not None:
            found.append(record)
        elif (told := read_progress(path)) is not None:
            progress[told[0]] = told[1]
    return trial_of(folder.name, found, progress)


def trial_of(identity: str, records: Iterable[Record], progress: Mapping[int, Progress]) -> TrialRecords:
    """A trial as its records tell it, whatever order they are in: of two that contradict, the first by name counts."""
    trial = TrialRecords(identity, progress=dict(sorted(progress.items())))
    ends: list[Record] = []
    for record in sorted(records, key=lambda record: (record.attempt, record.number)):
        if record.kind == "proposed":
            trial.proposed = trial.proposed or record
        elif record.kind == "started":
            trial.attempts.append(record)
        elif record.kind == "ended":
            ends.append(record)
        elif record.kind == "promoted":
            trial.promotions.append(record)
        else:
            trial.add_measured(record)
    for end in ends:
        if end.data["status"] == PAUSED:
            # What a decision rests on: of a measurement that a machine's end has taken, this is left.
            trial.add_measured(replace(end, kind="measured", data=end.data[PAUSED]))
    trial.ended = next((end for end in ends if not _goes_on(end, trial.promotions)), None)
    return trial


def _goes_on(end: Record, promotions: Iterable[Record]) -> bool:
    """Whether a trial that was paused went on from there; also where a worker that outlived its driver paused it."""
    paused = end.data["status"] == PAUSED
    return paused and any(place_in(one.data) >= place_in(end.data[PAUSED]) for one in promotions)


def read_search(folder: StoragePath, trials: bool = True) -> SearchRecords:
    """Read a search from its records. Nothing in it is run.

    Args:
        folder: of the search.
        trials: whether the trials are read too, or search.json only.

    Raises:
        UserError: there is no such search.
    """
    if not (folder / SEARCH_FILE).exists():
        raise UserError([Problem("", f"there is no search {shown(folder.name)} in this storage", str(folder.parent))])
    definition = read_json(folder / SEARCH_FILE)
    if definition.get("format") != FORMAT:
        text = (
            f"format {shown(definition.get('format'))} was written by another version; this one reads format {FORMAT}"
        )
        raise UserError([Problem("", text, str(folder / SEARCH_FILE))])
    found = [read_trial(path) for path in _trial_folders(folder)] if trials else []
    found = sorted((t for t in found if t.proposed is not None), key=lambda trial: (trial.control, trial.id))
    return SearchRecords(folder.name, folder, definition, {trial.id: trial for trial in found})


def _trial_folders(folder: StoragePath) -> Iterator[StoragePath]:
    parent = folder / TRIALS
    if parent.is_dir():
        found = [path for path in parent.iterdir() if path.is_dir() and not path.is_symlink()]
        yield from sorted(found, key=lambda path: path.name)


def list_searches(storage: StoragePath) -> list[str]:
    """Names of the searches in a storage."""
    parent = storage / SEARCHES
    if not parent.is_dir():
        return []
    return sorted(path.name for path in parent.iterdir() if (path / SEARCH_FILE).is_file())
